//! Facts that several workloads state, each worded once.

use hdrhistogram::Histogram;

use crate::cli::ServerArgs;
use crate::error::Error;
use crate::measure::median;
use crate::report::Report;
use crate::server::Server;

/// Key, label and quantile of one latency figure.
pub(crate) type Quantile = (&'static str, &'static str, f64);

/// The quantiles of one latency, `key` and `label` put before each.
macro_rules! quantiles {
    ($key:literal, $label:literal) => {
        [
            (concat!($key, "_p50_ms"), concat!($label, " p50"), 0.5),
            (concat!($key, "_p90_ms"), concat!($label, " p90"), 0.9),
            (concat!($key, "_p99_ms"), concat!($label, " p99"), 0.99),
            (concat!($key, "_p999_ms"), concat!($label, " p99.9"), 0.999),
            (concat!($key, "_max_ms"), concat!($label, " max"), 1.0),
        ]
    };
}
pub(crate) use quantiles;

/// Of deliveries.
pub(crate) const LATENCY: [Quantile; 5] = quantiles!("latency", "latency");

/// Latencies are kept with three digits, up to a minute; longer ones count as a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// An empty histogram for latencies in ns.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("constant bounds")
}

/// Adds a latency's quantiles, in ms; nothing if there is none.
pub(crate) fn latency(report: &mut Report, latency: &Histogram<u64>, quantiles: &[Quantile]) {
    if !latency.is_empty() {
        for &(key, label, quantile) in quantiles {
            report.figure(key, label, latency.value_at_quantile(quantile) as f64 / 1e6, "ms", "");
        }
    }
}

/// Adds the median of a figure that every round has; nothing if one has it not.
pub(crate) fn median_of<R>(
    report: &mut Report,
    rounds: &[R],
    (key, label, unit, remark): (&'static str, &str, &str, &str),
    figure: impl Fn(&R) -> Option<f64>,
) {
    if let Some(values) = all(rounds, figure) {
        report.figure(key, label, median(&values), unit, remark);
    }
}

/// A figure of every round, if every round has it and there is one.
pub(crate) fn all<R>(rounds: &[R], figure: impl Fn(&R) -> Option<f64>) -> Option<Vec<f64>> {
    let values: Option<Vec<f64>> = rounds.iter().map(figure).collect();
    values.filter(|values| !values.is_empty())
}

/// CPU time of the server once it is quiet, ns; `None` without a process to look at.
pub(crate) fn settled_cpu_ns(server: &Server) -> Result<Option<u64>, Error> {
    server.processes.as_ref().map(|processes| processes.settled_cpu_ns()).transpose()
}

/// CPU time of the server now, ns.
pub(crate) fn cpu_ns(server: &Server) -> Result<Option<u64>, Error> {
    server.processes.as_ref().map(|processes| processes.cpu_ns()).transpose()
}

/// Resident memory of the server now, MiB.
pub(crate) fn resident_mib(server: &Server) -> Result<Option<f64>, Error> {
    let bytes = server.processes.as_ref().map(|processes| processes.resident_bytes()).transpose()?;
    Ok(bytes.map(|bytes| bytes as f64 / 1_048_576.0))
}

/// What was spent between two readings.
pub(crate) fn spent(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

/// Refuses to sign tokens without a key.
pub(crate) fn check_key(server: &ServerArgs) -> Result<(), Error> {
    match server.url.is_some() && server.key.is_none() {
        true => Err(Error::Usage("--key is needed to sign tokens".into())),
        false => Ok(()),
    }
}

/// Refuses a payload that has no room for its stamp, or that no server takes.
pub(crate) fn check_size(size: usize) -> Result<(), Error> {
    match (crate::stamp::SIZE_MIN..=1024 * 1024).contains(&size) {
        true => Ok(()),
        false => {
            Err(Error::Usage(format!("--size must be from {} to 1048576 bytes", crate::stamp::SIZE_MIN)))
        }
    }
}

/// Refuses counts of nothing and rates that are none.
pub(crate) fn check_counts(counts: &[(&str, u64)], rates: &[(&str, f64)]) -> Result<(), Error> {
    if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(Error::Usage(format!("--{name} must be at least 1")));
    }
    match rates.iter().find(|(_, rate)| !(*rate > 0.0 && *rate <= 10_000_000.0)) {
        Some((name, _)) => Err(Error::Usage(format!("--{name} must be above 0 and at most 10000000"))),
        None => Ok(()),
    }
}

/// Refuses more publishers than a stamp can name.
pub(crate) fn check_publishers(publishers: usize) -> Result<(), Error> {
    match publishers < usize::from(crate::stamp::WARM_UP) {
        true => Ok(()),
        false => Err(Error::Usage(format!("at most {} publishers", crate::stamp::WARM_UP - 1))),
    }
}
