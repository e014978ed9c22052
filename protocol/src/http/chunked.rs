//! Where a chunked body ends (RFC 9112 §7.1), for requests that come in and for answers that come back.
//!
//! A reader of framing only: it is shown bytes as they come, in whatever pieces, and says which are framing and which
//! data; nothing is kept or copied. What must stay true: where the body ends is never a matter of opinion. A size is
//! hexadecimal digits and nothing else, lines end with CR LF, and what means nothing to us (extensions, trailers) has
//! a bound and no control characters.

/// Longest line of a chunk's size with its extensions, in bytes without its end.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// A chunked body as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks {
    place: Place,
    /// Bytes of trailers that may still come, line ends included.
    trailer_bytes_left: usize,
}

/// What the next bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// So many bytes of framing come first: pass over them.
    pub framing: usize,
    /// So many bytes of the body's data come then.
    pub data: usize,
}

/// It is no chunked body: answer 400 or drop the answer, and close the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ChunkFault {
    /// What is wrong with it, for the peer's developer.
    pub reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a size line, of which so many bytes came; the size so far, and whether its digits are over.
    Size {
        size: u64,
        line_bytes: usize,
        digits_over: bool,
    },
    /// Behind the CR of a size line.
    SizeEnd {
        size: u64,
    },
    /// In data, with so many bytes to come; 0 only before its line end.
    Data(u64),
    /// Behind the CR behind data.
    DataEnd,
    /// At the start of a trailer, or of the empty line that ends the body.
    Trailer,
    /// Within a trailer.
    TrailerLine,
    /// Behind the CR of a trailer.
    TrailerEnd,
    /// Behind the CR of the empty line.
    LastEnd,
    Done,
}

impl Chunks {
    /// A body of which nothing came yet; its trailers may have so many bytes in all, line ends included. With 0 there
    /// are none: what stands in them could be taken for headers by somebody else.
    pub fn new(trailer_bytes_max: usize) -> Self {
        Self { place: Place::START, trailer_bytes_left: trailer_bytes_max }
    }

    /// Whether the body ended.
    pub fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Bytes of the present chunk's data that have not come yet.
    pub fn data_left(&self) -> u64 {
        if let Place::Data(left) = self.place { left } else { 0 }
    }

    /// What stands at the start of `bytes`: framing, then data of one chunk, of which at most `data_max` bytes are
    /// taken. Ask again with what is behind both until everything is taken, [`is_done`](Self::is_done), or there is
    /// no room for data; bytes behind the end are not taken.
    ///
    /// # Errors
    ///
    /// When it is no chunked body; what was said before stays true, and there is nothing more to ask.
    pub fn take(&mut self, bytes: &[u8], data_max: usize) -> Result<Part, ChunkFault> {
        let mut framing = 0;
        while framing < bytes.len() && self.place != Place::Done {
            if let Place::Data(left @ 1..) = self.place {
                let there = (bytes.len() - framing).min(data_max) as u64;
                let data = left.min(there);
                self.place = Place::Data(left - data);
                return Ok(Part { framing, data: data as usize });
            }
            self.place = self.step(bytes[framing])?;
            framing += 1;
        }
        Ok(Part { framing, data: 0 })
    }

    /// The place behind one byte of framing.
    fn step(&mut self, byte: u8) -> Result<Place, ChunkFault> {
        let fault = |reason| Err(ChunkFault { reason });
        match (self.place, byte) {
            (Place::Size { size, line_bytes: 1.., .. }, b'\r') => Ok(Place::SizeEnd { size }),
            (Place::Size { line_bytes: CHUNK_LINE_BYTES_MAX.., .. }, _) => {
                fault("a line between chunks is too long")
            }
            (Place::Size { size, line_bytes, digits_over }, byte) => {
                let line_bytes = line_bytes + 1;
                match char::from(byte).to_digit(16) {
                    Some(digit) if !digits_over => match size.checked_mul(16) {
                        Some(size) => {
                            Ok(Place::Size { size: size | u64::from(digit), line_bytes, digits_over })
                        }
                        None => fault("the size of a chunk is none"),
                    },
                    _ if byte == b';' && line_bytes > 1 => {
                        Ok(Place::Size { size, line_bytes, digits_over: true })
                    }
                    _ if digits_over && is_text(byte) => Ok(Place::Size { size, line_bytes, digits_over }),
                    _ if digits_over => fault("a line between chunks has a control character"),
                    _ => fault("the size of a chunk is none"),
                }
            }
            (Place::SizeEnd { size: 0 }, b'\n') => Ok(Place::Trailer),
            (Place::SizeEnd { size }, b'\n') => Ok(Place::Data(size)),
            (Place::Data(_), b'\r') => Ok(Place::DataEnd),
            (Place::DataEnd, b'\n') => Ok(Place::START),
            (Place::Data(_) | Place::DataEnd, _) => fault("a chunk is longer than it says"),
            (Place::Trailer, b'\r') => Ok(Place::LastEnd),
            (Place::LastEnd, b'\n') => Ok(Place::Done),
            (Place::Trailer | Place::TrailerLine | Place::TrailerEnd, byte) => {
                self.trailer_bytes_left = match self.trailer_bytes_left.checked_sub(1) {
                    Some(left) => left,
                    None => return fault("the body has too many trailers"),
                };
                match (self.place, byte) {
                    (Place::TrailerLine, b'\r') => Ok(Place::TrailerEnd),
                    (Place::TrailerEnd, b'\n') => Ok(Place::Trailer),
                    // Bytes beyond ASCII are as legal as in headers.
                    (Place::Trailer | Place::TrailerLine, byte) if is_text(byte) || byte >= 0x80 => {
                        Ok(Place::TrailerLine)
                    }
                    _ => fault("a trailer is malformed"),
                }
            }
            (Place::SizeEnd { .. } | Place::LastEnd, _) => fault("a line between chunks has no proper end"),
            (Place::Done, _) => Ok(Place::Done),
        }
    }
}

impl Place {
    const START: Self = Self::Size { size: 0, line_bytes: 0, digits_over: false };
}

/// Visible ASCII and white space: nothing that could end a line for somebody.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (b' '..0x7f).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data and how many bytes the body has, of a body that comes in these pieces.
    fn read<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        trailers: usize,
    ) -> Result<(Vec<u8>, usize), &'static str> {
        let mut chunks = Chunks::new(trailers);
        let (mut data, mut taken) = (Vec::new(), 0);
        for mut piece in pieces {
            while !piece.is_empty() && !chunks.is_done() {
                let part = chunks.take(piece, 3).map_err(|fault| fault.reason)?;
                data.extend_from_slice(&piece[part.framing..][..part.data]);
                taken += part.framing + part.data;
                piece = &piece[part.framing + part.data..];
            }
        }
        if chunks.is_done() { Ok((data, taken)) } else { Err("not whole") }
    }

    #[test]
    fn bodies_mean_the_same_however_they_are_cut() {
        for (body, data) in [
            ("0\r\n\r\n", ""),
            ("2\r\nhi\r\n0\r\n\r\n", "hi"),
            ("2\r\nhi\r\nA;x=y; z\t\r\n0123456789\r\n000;\r\n\r\n", "hi0123456789"),
            ("1;ext=\"q\"\r\na\r\n0\r\nTrailer: \u{e4}\r\nB:\r\n\r\n", "a"),
        ] {
            let behind = [body.as_bytes(), b"GET /"].concat();
            let expected = Ok((data.as_bytes().to_vec(), body.len()));
            assert_eq!(read([&behind[..]], 100), expected, "{body:?}");
            assert_eq!(read(behind.chunks(1), 100), expected, "{body:?}");
            for cut in 1..body.len() {
                assert_eq!(read([&behind[..cut], &behind[cut..]], 100), expected, "{body:?} cut at {cut}");
                assert_eq!(read([&behind[..cut]], 100), Err("not whole"), "{body:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        let line = |len: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(len - 2));
        assert_eq!(read([line(CHUNK_LINE_BYTES_MAX).as_bytes()], 0).map(|(data, _)| data), Ok(b"a".to_vec()));
        for (body, reason) in [
            ("\r\n", "the size of a chunk is none"),
            (";x\r\n", "the size of a chunk is none"),
            ("g\r\n", "the size of a chunk is none"),
            ("+1\r\n", "the size of a chunk is none"),
            ("0x1\r\n", "the size of a chunk is none"),
            (" 1\r\n", "the size of a chunk is none"),
            ("1 \r\n", "the size of a chunk is none"),
            ("1\n", "the size of a chunk is none"),
            ("10000000000000000\r\n", "the size of a chunk is none"),
            ("1\rx", "a line between chunks has no proper end"),
            ("1;a\nb\r\n", "a line between chunks has a control character"),
            ("1;a\0\r\n", "a line between chunks has a control character"),
            (&line(CHUNK_LINE_BYTES_MAX + 1), "a line between chunks is too long"),
            ("1\r\nab", "a chunk is longer than it says"),
            ("1\r\na\n", "a chunk is longer than it says"),
            ("1\r\na\rx", "a chunk is longer than it says"),
            ("0\r\n\rx", "a line between chunks has no proper end"),
            ("0\r\n\n", "a trailer is malformed"),
            ("0\r\na\n", "a trailer is malformed"),
            ("0\r\na\rb", "a trailer is malformed"),
            ("0\r\na: bcdefgh\r\n\r\n", "the body has too many trailers"),
        ] {
            assert_eq!(read([body.as_bytes()], 10), Err(reason), "{body:?}");
        }
        assert_eq!(read([&b"0\r\na: b\r\n\r\n"[..]], 0), Err("the body has too many trailers"));
        assert_eq!(read([&b"ffffffffffffffff\r\n"[..]], 0), Err("not whole"), "the largest size there is");
    }
}
