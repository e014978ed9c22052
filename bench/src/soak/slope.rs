//! A straight line through samples, and how far it can be trusted.

/// Samples of memory over time, in means of a minute: samples a second apart repeat each other, and would make the
/// error look much smaller than it is.
#[derive(Default)]
pub(crate) struct Trend {
    /// (hours, MiB) sums and their number, by minute.
    minutes: Vec<(u64, f64, f64, f64)>,
}

/// Growth, MiB an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slope {
    pub(crate) per_hour: f64,
    /// Half of the interval that holds the true one 19 times of 20.
    pub(crate) error: f64,
    /// Means it was computed from.
    pub(crate) minutes: usize,
}

/// What a slope says about growth that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    /// More than is allowed, by more than the scatter explains.
    Grows,
    /// More than is allowed, but the scatter could explain it; or the scatter is wider than what is allowed: whatever
    /// the slope is, it is not known.
    Undecided,
}

impl Slope {
    pub(crate) fn verdict(&self, per_hour_max: f64) -> Verdict {
        if self.per_hour - self.error > per_hour_max {
            Verdict::Grows
        } else if self.per_hour > per_hour_max || self.error > per_hour_max {
            Verdict::Undecided
        } else {
            Verdict::Holds
        }
    }
}

impl Trend {
    pub(crate) fn add(&mut self, hours: f64, mib: f64) {
        let minute = (hours * 60.0) as u64;
        match self.minutes.last_mut() {
            Some((last, x, y, n)) if *last == minute => {
                *x += hours;
                *y += mib;
                *n += 1.0;
            }
            _ => self.minutes.push((minute, hours, mib, 1.0)),
        }
    }

    /// By least squares; `None` of fewer than three minutes.
    pub(crate) fn slope(&self) -> Option<Slope> {
        let points: Vec<(f64, f64)> = self.minutes.iter().map(|(_, x, y, n)| (x / n, y / n)).collect();
        let n = points.len() as f64;
        if points.len() < 3 {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n;
        let (x_mean, y_mean) = (mean(|p| p.0), mean(|p| p.1));
        let xx: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
        let xy: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
        let per_hour = xy / xx;
        let residual: f64 =
            points.iter().map(|(x, y)| (y - y_mean - per_hour * (x - x_mean)).powi(2)).sum::<f64>();
        let error = (residual / (n - 2.0) / xx).sqrt() * student(points.len() - 2);
        Some(Slope { per_hour, error, minutes: points.len() })
    }
}

/// The 97.5 % point of Student's distribution: a series in the degrees of freedom, good to 2 % from three on.
fn student(degrees: usize) -> f64 {
    let (z, n) = (1.959_964_f64, degrees as f64);
    match degrees {
        1 => 12.706,
        2 => 4.303,
        _ => {
            z + (z.powi(3) + z) / (4.0 * n)
                + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
                + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * n.powi(3))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_with_its_scatter() {
        let mut trend = Trend::default();
        assert_eq!(trend.slope(), None);
        for second in 0..1_200 {
            trend.add(f64::from(second) / 3_600.0, 50.0 + 2.5 * f64::from(second) / 3_600.0);
        }
        let slope = trend.slope().unwrap();
        assert!((slope.per_hour - 2.5).abs() < 1e-9 && slope.error < 1e-6, "{slope:?}");
        assert_eq!(slope.minutes, 20);

        // Minutes that lie 1 MiB above and below in turns: no slope, and an error that says how little is known.
        let mut trend = Trend::default();
        for second in 0..1_200 {
            let above = f64::from(second / 60 % 2) * 2.0 - 1.0;
            trend.add(f64::from(second) / 3_600.0, 50.0 + above);
        }
        let slope = trend.slope().unwrap();
        assert!(slope.per_hour.abs() < slope.error && slope.error > 3.0, "{slope:?}");
    }

    /// A run of 20 minutes on a busy machine said -6.9 ± 33.7 MiB an hour and passed.
    #[test]
    fn a_slope_within_wide_scatter_decides_nothing() {
        let verdict = |per_hour, error| Slope { per_hour, error, minutes: 15 }.verdict(1.0);
        assert_eq!(verdict(-6.9, 33.7), Verdict::Undecided);
        assert_eq!(verdict(50.0, 33.7), Verdict::Grows);
        assert_eq!([verdict(0.9, 0.3), verdict(-0.2, 1.0)], [Verdict::Holds; 2]);
        assert_eq!(verdict(1.5, 0.4), Verdict::Grows);
    }

    /// 1.5 ± 1.0 passed as at most 1.0.
    #[test]
    fn a_slope_over_the_bound_never_holds() {
        let verdict = |per_hour, error| Slope { per_hour, error, minutes: 15 }.verdict(1.0);
        assert_eq!([verdict(1.5, 1.0), verdict(1.1, 0.2)], [Verdict::Undecided; 2]);
        assert_eq!([verdict(1.0, 1.0), verdict(1.0, 0.0)], [Verdict::Holds; 2]);
    }

    /// Against a table of the distribution.
    #[test]
    fn students_factor() {
        for (degrees, wanted) in [(3, 3.182), (5, 2.571), (13, 2.160), (60, 2.000)] {
            assert!((student(degrees) / wanted - 1.0).abs() < 0.02, "{degrees}: {}", student(degrees));
        }
    }
}
