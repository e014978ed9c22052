//! What a delivery costs against the number of members, from ten to as many as one process may open.
//!
//! For every size and shape the chosen protocols and the floor are measured as in `compare`: rounds
//! interleaved. Where all of them together need more open files than there are, protocols take their
//! turns, each with a floor of its own.

use clap::Args;

use crate::cli::Protocol;
use crate::compare::{Entrant, Setup, Shape};
use crate::contest::Contest;
use crate::error::Error;
use crate::report::Report;
use crate::server::{Server, Verb};
use crate::sys;

/// Open files kept back for everything that is no client.
const FILES_KEPT: usize = 64;

/// Options of `sweep`.
#[derive(Args, Clone)]
pub(crate) struct SweepArgs {
    /// Start this ringhub binary, once per protocol.
    #[arg(long, value_name = "PATH")]
    pub(crate) server_bin: String,
    /// How clients talk: raw, json, reliable.
    #[arg(long = "protocol", value_enum, value_delimiter = ',',
          default_values_t = [Protocol::Raw, Protocol::Json, Protocol::Reliable])]
    pub(crate) protocols: Vec<Protocol>,
    /// Numbers of members, one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1_000, 5_000, 10_000, 18_000])]
    pub(crate) members: Vec<usize>,
    /// What is measured at every size.
    #[arg(long = "shape", value_enum, value_delimiter = ',',
          default_values_t = [Shape::Window1, Shape::Burst32])]
    pub(crate) shapes: Vec<Shape>,
    #[command(flatten)]
    pub(crate) setup: Setup,
}

/// Everything for one run of `sweep`; the directory is the caller's to write.
pub(crate) fn run(args: &SweepArgs) -> Result<Vec<Report>, Error> {
    args.check()?;
    let setup = &args.setup;
    let entrants: Vec<Entrant> = args
        .protocols
        .iter()
        .map(|&protocol| {
            let (name, cores) = (protocol.name().to_owned(), setup.cores[0]);
            Entrant::own(&args.server_bin, name, protocol, Verb::Serve, cores, setup)
        })
        .collect::<Result<_, _>>()?;
    let mut reports = Vec::new();
    for &shape in &args.shapes {
        for &members in &args.members {
            let contest = Contest { workload: "sweep", setup, shape, members };
            let entrants: Vec<&Entrant> = entrants.iter().collect();
            for together in entrants.chunks(together(members)?) {
                reports.extend(contest.hold(together)?);
            }
        }
    }
    Ok(reports)
}

impl SweepArgs {
    fn check(&self) -> Result<(), Error> {
        self.setup.check()?;
        let usage = |reason: &str| Err(Error::Usage(reason.to_owned()));
        if self.protocols.iter().any(|protocol| !protocol.is_own()) {
            return usage("sweep measures our own protocols: raw, json, reliable");
        }
        if self.setup.cores.len() != 1 {
            return usage("sweep takes one number of --cores");
        }
        if self.shapes.contains(&Shape::Echo) {
            return usage("sweep is about fan-out; echo has no members");
        }
        let Some(most) = self.members.iter().max() else { return usage("--members names no size") };
        if self.members.contains(&0) || self.shapes.is_empty() || self.protocols.is_empty() {
            return usage("every size must be at least 1, with at least one shape and one protocol");
        }
        Server::check_room_for(most + 1)
    }
}

/// How many servers may have `members` and a publisher open at the same time.
fn together(members: usize) -> Result<usize, Error> {
    let files = sys::raise_open_files().map_err(Error::io("raise the limit of open files"))?;
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    Ok((files.saturating_sub(FILES_KEPT) / (members + 1)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_share_the_files_there_are() {
        let files = usize::try_from(sys::raise_open_files().unwrap()).unwrap();
        assert_eq!(together(files).unwrap(), 1);
        assert!(together(1).unwrap() > 3);
        assert!(together(files / 3).unwrap() <= 3);
    }
}
