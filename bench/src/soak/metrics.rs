//! What the server says it holds: every gauge of its metrics page, and whether groups exist.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::Error;
use crate::layout::group_name;
use crate::server::Server;
use crate::token;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gauges that say something else than what is held.
const NOT_HELD: [&str; 6] = [
    "ringhub_configured_at_seconds",
    "ringhub_memory_bytes_max",
    "ringhub_memory_core_bytes_max",
    // Looked at in other ways, with a warm-up.
    "ringhub_memory_used_bytes",
    "ringhub_oidc_keys",
    "ringhub_oidc_keys_age_seconds",
];

/// The gauges of a metrics page, by name and labels.
pub(crate) struct Gauges(BTreeMap<String, f64>);

impl Gauges {
    /// Reads the server's page.
    pub(crate) fn read(server: &Server) -> Result<Self, Error> {
        let admin = server
            .admin
            .ok_or_else(|| Error::Child("the server did not say where its admin listener is".into()))?;
        let (status, page) = exchange(admin, "GET", "/metrics", &admin.to_string(), "")?;
        match status {
            200 => Ok(Self::parse(&page)),
            other => Err(Error::Child(format!("GET /metrics was answered {other}"))),
        }
    }

    fn parse(page: &str) -> Self {
        let mut gauge = None;
        let mut all = BTreeMap::new();
        for line in page.lines() {
            if let Some(of_type) = line.strip_prefix("# TYPE ") {
                gauge = of_type.strip_suffix(" gauge").filter(|name| !NOT_HELD.contains(name));
            } else if !line.starts_with('#')
                && gauge.is_some_and(|name| line.starts_with(name))
                && let Some((name, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse()
            {
                all.insert(name.to_owned(), value);
            }
        }
        Self(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// What differs in `later`, in words. A row that is not there counts as 0: hubs appear with their first client.
    pub(crate) fn difference(&self, later: &Self) -> Vec<String> {
        let names = self.0.keys().chain(later.0.keys().filter(|name| !self.0.contains_key(*name)));
        names
            .filter_map(|name| {
                let value = |gauges: &Self| gauges.0.get(name).copied().unwrap_or(0.0);
                let (before, now) = (value(self), value(later));
                (before != now).then(|| format!("{name} {now} instead of {before}"))
            })
            .collect()
    }
}

/// The sum of a family over all its labels.
///
/// # Errors
/// No answer, or the family is not on the page: nobody may take that for 0.
pub(crate) fn sum(admin: SocketAddr, name: &str) -> Result<u64, Error> {
    let (_, page) = exchange(admin, "GET", "/metrics", &admin.to_string(), "")?;
    sum_of(&page, name).ok_or_else(|| Error::Child(format!("{name} is not on the server's metrics page")))
}

fn sum_of(page: &str, name: &str) -> Option<u64> {
    let rows = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values: Vec<u64> = rows.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// Groups of the hub that REST still finds, in words.
pub(crate) fn groups_left(server: &Server, hub: &str, groups: usize) -> Result<Vec<String>, Error> {
    let mut left = Vec::new();
    for group in 0..groups {
        let path = token::exists_path(hub, &format!("groups/{}", group_name(group)));
        let token = token::sign_request(&server.key, &server.host, &path, token::now_s());
        let header = format!("Authorization: Bearer {token}\r\n");
        match exchange(server.address, "HEAD", &path, &server.host, &header)?.0 {
            404 => {}
            other => left.push(format!("HEAD {path} is answered {other}")),
        }
    }
    Ok(left)
}

/// One request on a connection of its own.
fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    host: &str,
    headers: &str,
) -> Result<(u16, String), Error> {
    let what = || format!("{method} {path}");
    let mut answer = Vec::new();
    let mut exchange = || {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
        socket.write_all(request.as_bytes())?;
        socket.read_to_end(&mut answer)
    };
    exchange().map_err(Error::io(what()))?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| Error::Child(format!("{} was answered {answer:?}", what())))?;
    Ok((status, answer.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_compared_and_counters_are_not() {
        let page = |sockets, more: &str| {
            Gauges::parse(&format!(
                "HTTP/1.1 200 OK\r\n\r\n# TYPE a counter\na_total 5\n# HELP s x\n# TYPE s gauge\n\
                 s{{core=\"0\"}} {sockets}\n{more}# EOF\n"
            ))
        };
        let (base, later) = (page(1, ""), page(3, "# TYPE h gauge\nh{hub=\"x y\"} 2\nh{hub=\"z\"} 0\n"));
        assert_eq!((base.len(), base.difference(&base)), (1, Vec::new()));
        let wanted = ["s{core=\"0\"} 3 instead of 1", "h{hub=\"x y\"} 2 instead of 0"];
        assert_eq!(base.difference(&later), wanted);
        assert_eq!(later.difference(&base).len(), 2);
    }

    #[test]
    fn a_family_is_summed_and_a_missing_one_is_not_0() {
        let page = "# TYPE a counter\na_total{core=\"0\"} 5\na_total{core=\"1\"} 2\na_total_more 9\n# EOF\n";
        assert_eq!((sum_of(page, "a_total"), sum_of(page, "a")), (Some(7), None));
    }
}
