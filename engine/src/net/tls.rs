//! One TLS connection without I/O: bytes in, plaintext out; plaintext in, bytes out.
//!
//! rustls' unbuffered side does the protocol; this module keeps what that side wants kept and no more.
//! What must stay true: records leave in the order they were made, so what is written to `out` goes to the peer
//! before anything made later, whole, and once; after a fault nothing is read or written any more but the alert
//! that stands in `out` already.
//!
//! Bounds: of input, a record in pieces ([`RECORD_BYTES_MAX`] and its header) or the records of a handshake
//! message in pieces ([`PARTIAL_BYTES_MAX`]); of output, nothing stays here.

use bytes::BytesMut;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{Error, HandshakeKind, ServerConfig};
use std::sync::Arc;

/// Most plaintext of one record, in bytes (RFC 8446 §5.1).
pub(crate) const PLAIN_BYTES_MAX: usize = 16 << 10;
/// Most bytes behind a record's header (RFC 5246 §6.2.3; RFC 8446 §5.2 has less).
const RECORD_BYTES_MAX: usize = PLAIN_BYTES_MAX + 2048;
/// Most bytes kept of a handshake message that comes in several records: rustls takes messages of up to 64 KiB
/// (a chain of client certificates), and every record has a header. More ends the connection.
const PARTIAL_BYTES_MAX: usize = 96 << 10;
/// A record's header: type, version, length.
const HEADER_BYTES: usize = 5;
/// Content type of the first record of any client (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;
/// What a record adds to its plaintext at most: header, nonce or type byte, tag.
const OVERHEAD_BYTES: usize = 64;

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFault {
    /// How it is counted.
    pub(crate) class: FailureClass,
    /// For the log.
    pub(crate) reason: String,
}

/// Reasons for which a handshake fails, as a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// HTTP without TLS.
    PlainHttp,
    /// Bytes that are no TLS.
    NotTls,
    /// No version, cipher suite, group or application protocol in common.
    Incompatible,
    /// The peer sent an alert: most often it does not trust our certificate.
    Alert,
    /// The peer's certificate is malformed or its signature is not of its key.
    ClientCertificate,
    /// Anything else the peer did wrong.
    Protocol,
    /// The peer left before the end.
    Closed,
    /// The peer was too slow.
    Timeout,
}

impl FailureClass {
    /// All, in the order of the counters.
    pub(crate) const ALL: [Self; 8] = [
        Self::PlainHttp,
        Self::NotTls,
        Self::Incompatible,
        Self::Alert,
        Self::ClientCertificate,
        Self::Protocol,
        Self::Closed,
        Self::Timeout,
    ];

    /// The label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http",
            Self::NotTls => "not_tls",
            Self::Incompatible => "incompatible",
            Self::Alert => "alert",
            Self::ClientCertificate => "client_certificate",
            Self::Protocol => "protocol",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
        }
    }

    fn of(error: &Error, understood: bool) -> Self {
        match error {
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord if !understood => Self::NotTls,
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible,
            Error::AlertReceived(_) => Self::Alert,
            Error::InvalidCertificate(_) | Error::NoCertificatesPresented => Self::ClientCertificate,
            _ => Self::Protocol,
        }
    }
}

/// What came of the bytes of a peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The handshake is done, now.
    pub(crate) handshaken: bool,
    /// The peer has said that nothing more will come.
    pub(crate) ended: bool,
}

type Traffic<'c> = WriteTraffic<'c, ServerConnectionData>;

/// The server's side of one TLS connection.
pub(crate) struct TlsStream {
    connection: UnbufferedServerConnection,
    /// Received and not used up: whole records of an incomplete handshake message, then a record in pieces.
    partial: Vec<u8>,
    /// How much of `partial` is whole records.
    whole: usize,
    phase: Phase,
    said_goodbye: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing of the peer was understood yet.
    New,
    Running,
    /// The peer has said goodbye.
    Ended,
    Failed,
}

impl TlsStream {
    /// A connection whose handshake is still to come.
    ///
    /// # Panics
    /// If `config` allows no protocol version, which the configuration's own check excludes.
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        let connection = UnbufferedServerConnection::new(config).expect("a checked configuration");
        Self { connection, partial: Vec::new(), whole: 0, phase: Phase::New, said_goodbye: false }
    }

    /// Takes bytes from the peer, any split (they are overwritten). Plaintext is appended to `plain`, records for
    /// the peer to `out`.
    ///
    /// # Errors
    /// When the connection cannot go on; what was understood before is in `plain`, an alert is in `out`.
    pub(crate) fn receive(
        &mut self,
        bytes: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut BytesMut,
    ) -> Result<Progress, TlsFault> {
        if bytes.is_empty() || matches!(self.phase, Phase::Ended | Phase::Failed) {
            return Ok(Progress::default());
        }
        if self.phase == Phase::New
            && self.partial.is_empty()
            && let Some(fault) = foreign(bytes[0])
        {
            self.phase = Phase::Failed;
            return Err(fault);
        }
        let was_handshaking = self.connection.is_handshaking();
        match self.take(bytes, plain, out) {
            Ok(ended) => {
                if ended {
                    self.phase = Phase::Ended;
                    self.partial = Vec::new();
                }
                Ok(Progress { handshaken: was_handshaking && !self.connection.is_handshaking(), ended })
            }
            Err(error) => {
                let understood = self.phase != Phase::New || !out.is_empty();
                self.phase = Phase::Failed;
                self.say_alert(out);
                self.partial = Vec::new();
                Err(TlsFault { class: FailureClass::of(&error, understood), reason: error.to_string() })
            }
        }
    }

    /// Whether the peer's goodbye was in `rest`.
    fn take(
        &mut self,
        mut rest: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut BytesMut,
    ) -> Result<bool, Error> {
        while !self.partial.is_empty() && !rest.is_empty() {
            // Up to the end of the record that is in pieces, so that the next one can be read in place.
            let (more, behind) = rest.split_at_mut(self.missing().min(rest.len()));
            self.partial.extend_from_slice(more);
            rest = behind;
            if self.missing() == 0 {
                self.whole = self.partial.len();
            }
            let (used, ended) = process(&mut self.connection, &mut self.partial, plain, out)?;
            self.partial.drain(..used);
            self.kept(self.whole, used);
            if ended {
                return Ok(true);
            }
            if self.partial.len() > PARTIAL_BYTES_MAX {
                return Err(Error::General("a handshake message in too many pieces".to_owned()));
            }
        }
        if rest.is_empty() {
            return Ok(false);
        }
        let whole = whole_records(rest);
        let (used, ended) = process(&mut self.connection, rest, plain, out)?;
        self.partial = rest[used..].to_vec();
        self.kept(whole, used);
        Ok(ended)
    }

    /// `partial` was cut down to what is behind `used` bytes, of which `whole` were whole records.
    fn kept(&mut self, whole: usize, used: usize) {
        if whole > 0 {
            self.phase = Phase::Running;
        }
        self.whole = whole.saturating_sub(used);
        if self.partial.is_empty() {
            // An idle connection keeps nothing.
            self.partial = Vec::new();
        }
    }

    /// Bytes to come of the record in pieces; of its header, if that is not there yet.
    fn missing(&self) -> usize {
        let record = &self.partial[self.whole..];
        match record_bytes(record) {
            Some(bytes) => bytes.saturating_sub(record.len()),
            None => HEADER_BYTES - record.len(),
        }
    }

    /// Makes one record of at most [`PLAIN_BYTES_MAX`] and appends it to `out`.
    ///
    /// # Errors
    /// Before the handshake is done, after a fault, and when the keys are used up.
    pub(crate) fn encrypt(&mut self, plaintext: &[u8], out: &mut BytesMut) -> Result<(), TlsFault> {
        debug_assert!((1..=PLAIN_BYTES_MAX).contains(&plaintext.len()));
        self.write(out, plaintext.len() + OVERHEAD_BYTES, |traffic, space| traffic.encrypt(plaintext, space))
    }

    /// Appends our goodbye to `out`, once, if there is somebody to say it to.
    pub(crate) fn say_goodbye(&mut self, out: &mut BytesMut) {
        if self.said_goodbye || self.connection.is_handshaking() || self.phase == Phase::Failed {
            return;
        }
        self.said_goodbye = true;
        // A connection whose keys are used up ends without one.
        let _ = self.write(out, OVERHEAD_BYTES, |traffic, space| traffic.queue_close_notify(space));
    }

    fn write(
        &mut self,
        out: &mut BytesMut,
        space: usize,
        mut make: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), TlsFault> {
        let fault = |reason: String| TlsFault { class: FailureClass::Protocol, reason };
        if self.phase == Phase::Failed || self.connection.is_handshaking() {
            return Err(fault("nothing can be said on this connection".to_owned()));
        }
        loop {
            // Not an empty slice: what is kept of a handshake message has its place in there.
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.partial);
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(|space| data.encode(space), out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let start = out.len();
                    let mut space = space;
                    let made = loop {
                        out.resize(start + space, 0);
                        match make(&mut traffic, &mut out[start..]) {
                            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                                space = required_size;
                            }
                            made => break made,
                        }
                    };
                    out.truncate(start + made.as_ref().copied().unwrap_or(0));
                    return made.map(drop).map_err(|error| {
                        self.phase = Phase::Failed;
                        fault(error.to_string())
                    });
                }
                Ok(_) => {
                    self.phase = Phase::Failed;
                    return Err(fault("the connection is closed".to_owned()));
                }
                Err(error) => {
                    self.phase = Phase::Failed;
                    return Err(fault(error.to_string()));
                }
            }
        }
    }

    /// Appends what rustls wants said about its last error. Only that: it must not look at input again.
    fn say_alert(&mut self, out: &mut BytesMut) {
        while self.connection.wants_write() {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.partial);
            match state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(|space| data.encode(space), out),
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => return,
            }
        }
    }

    /// Whether a handshake is to come or going on; a failed one is neither.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking() && self.phase != Phase::Failed
    }

    /// Whether the handshake was ever done.
    pub(crate) fn was_open(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Whether the peer has sent nothing yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.phase == Phase::New && self.partial.is_empty()
    }

    /// Nothing more is to come of it.
    pub(crate) fn give_up(&mut self) {
        self.phase = Phase::Failed;
        self.partial = Vec::new();
    }

    /// Whether the handshake took up an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate the peer has shown, in DER; its signature was checked, its issuer was not.
    pub(crate) fn client_certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(|certificate| certificate.as_ref())
    }
}

/// What the first byte says about a peer that does not speak TLS.
fn foreign(first: u8) -> Option<TlsFault> {
    let (class, reason) = match first {
        HANDSHAKE => return None,
        // A method's first letter (RFC 9110 §9.1: they are upper case by convention).
        b'A'..=b'Z' => (FailureClass::PlainHttp, "HTTP without TLS"),
        _ => (FailureClass::NotTls, "the first byte is not of a TLS handshake"),
    };
    Some(TlsFault { class, reason: reason.to_owned() })
}

/// Runs the connection over `incoming`: how much of it is used up, and whether the peer said goodbye.
fn process(
    connection: &mut UnbufferedServerConnection,
    incoming: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut BytesMut,
) -> Result<(usize, bool), Error> {
    let (mut used, mut ended) = (0, false);
    // Every round uses up input, gives something out, or is the last.
    loop {
        let UnbufferedStatus { mut discard, state } = connection.process_tls_records(&mut incoming[used..]);
        let mut over = false;
        match state? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            ConnectionState::EncodeTlsData(mut data) => encode(|space| data.encode(space), out),
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => ended = true,
            ConnectionState::BlockedHandshake
            | ConnectionState::WriteTraffic(_)
            | ConnectionState::Closed => over = true,
            // Early data is not offered.
            _ => return Err(Error::General("an unexpected state".to_owned())),
        }
        used += discard;
        if over {
            return Ok((used, ended));
        }
    }
}

/// Appends a handshake record.
fn encode(mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>, out: &mut BytesMut) {
    let start = out.len();
    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) = encode(&mut []) {
        out.resize(start + required_size, 0);
        let encoded = encode(&mut out[start..]);
        debug_assert!(encoded.is_ok_and(|bytes| bytes == required_size));
    }
}

/// A record's bytes, header included, once the header is there.
fn record_bytes(record: &[u8]) -> Option<usize> {
    let length = record.get(HEADER_BYTES - 2..HEADER_BYTES)?;
    Some(HEADER_BYTES + usize::from(u16::from_be_bytes([length[0], length[1]])).min(RECORD_BYTES_MAX))
}

/// How much of `bytes`, which start with a record, is whole records.
fn whole_records(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(record) = record_bytes(&bytes[whole..])
        && whole + record <= bytes.len()
    {
        whole += record;
    }
    whole
}
