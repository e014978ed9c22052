//! What a service manager is told of the server's state: systemd's protocol of `sd_notify(3)`, one datagram a state.
//! Without a manager that asks for it, by `NOTIFY_SOCKET`, nobody is told.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It listens.
    Ready,
    /// It was told to stop.
    Stopping,
}

/// Tells the manager. That it cannot be told is worth a line in the log and ends nothing.
pub(crate) fn tell(state: State) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        tracing::warn!(%error, "the service manager cannot be told that the server is {state:?}");
    }
}

fn send(socket: &OsStr, state: State) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let message: &[u8] = match state {
        State::Ready => b"READY=1",
        State::Stopping => b"STOPPING=1",
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_one_datagram_to_a_path_or_an_abstract_name() {
        let folder = env::temp_dir().join(format!("ringhub-notify-{}", std::process::id()));
        let name = format!("ringhub-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (receiver, socket) in [
            (UnixDatagram::bind(&folder).unwrap(), folder.clone().into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}").into()),
        ] {
            for (state, message) in [(State::Ready, "READY=1"), (State::Stopping, "STOPPING=1")] {
                send(&socket, state).unwrap();
                let mut received = [0; 32];
                let length = receiver.recv(&mut received).unwrap();
                assert_eq!(&received[..length], message.as_bytes());
            }
        }
        std::fs::remove_file(&folder).unwrap();
        assert!(send(folder.as_os_str(), State::Ready).is_err(), "nobody is there any more");
    }
}
