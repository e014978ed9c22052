//! Messages that reliable receivers share, encoded without sequence ids.
//!
//! Replay logs keep a batch for as long as somebody may need it. Receivers that can inflate share it with those that
//! cannot: which form a frame is written in is decided when it is written, so a session may come back without
//! permessage-deflate and be sent everything again.

use crate::encoding::Encoding;
use crate::{Perishable, Time};
use bytes::Bytes;
use ringhub_protocol::ws::frame;
use std::ops::Range;

/// One turn's messages of one group (or one direct message).
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) encoding: Encoding,
    /// Bodies, one after the other.
    pub(crate) bodies: Bytes,
    /// Where each ends.
    pub(crate) ends: Vec<u32>,
    /// The first of `deadlines`, or [`Time::NEVER`].
    pub(crate) expires: Time,
    /// By place in the batch, in order: until when a message is worth sending, where that ends.
    deadlines: Box<[(u32, Time)]>,
    /// There if somebody can inflate.
    deflated: Option<Box<Deflated>>,
}

/// The bodies once more, deflated.
#[derive(Debug)]
pub(crate) struct Deflated {
    /// Payloads (RFC 7692 §7.2), one after the other; what is not worth deflating has none.
    pub(crate) payloads: Bytes,
    /// Where each ends.
    pub(crate) ends: Vec<u32>,
}

/// A message as it is to be written.
pub(crate) enum Form<'a> {
    /// The place of its body in [`Batch::bodies`].
    Plain(Range<usize>),
    /// The place of its payload among others, and the length of its body.
    Deflated(&'a Bytes, Range<usize>, usize),
}

impl Batch {
    pub(crate) fn new(
        encoding: Encoding,
        bodies: Bytes,
        ends: Vec<u32>,
        deadlines: Box<[(u32, Time)]>,
    ) -> Self {
        let expires = deadlines.iter().map(|&(_, until)| until).min().unwrap_or(Time::NEVER);
        Self { encoding, bodies, ends, expires, deadlines, deflated: None }
    }

    /// With its deflated form.
    pub(crate) fn with(mut self, deflated: Option<Deflated>) -> Self {
        self.deflated = deflated.filter(|deflated| !deflated.payloads.is_empty()).map(Box::new);
        self
    }

    /// Until when a message is worth sending, if that ends.
    pub(crate) fn until(&self, index: u32) -> Option<Time> {
        let at = self.deadlines.binary_search_by_key(&index, |&(index, _)| index).ok()?;
        Some(self.deadlines[at].1)
    }

    /// Appends one message's frame; `deflate` says whether its receiver can inflate.
    #[inline]
    pub(crate) fn write_frame(&self, out: &mut Vec<u8>, index: u32, id: u64, deflate: bool) {
        if deflate && let Form::Deflated(payloads, payload, body_len) = self.form(index, true) {
            self.encoding.write_head_deflated(out, payload.len(), body_len, id);
            out.extend_from_slice(&payloads[payload]);
            return self.encoding.write_tail_deflated(out, id);
        }
        self.encoding.write_numbered(out, &self.bodies[self.range(index)], id);
    }

    /// How a message is written for a receiver that can inflate or cannot.
    pub(crate) fn form(&self, index: u32, deflate: bool) -> Form<'_> {
        let body = self.range(index);
        match self.deflated.as_ref().filter(|_| deflate) {
            Some(deflated) => match range(&deflated.ends, index) {
                payload if payload.is_empty() => Form::Plain(body),
                payload => Form::Deflated(&deflated.payloads, payload, body.len()),
            },
            None => Form::Plain(body),
        }
    }

    /// Bytes of a message as it is written: of its body, or of its payload.
    pub(crate) fn written_len(&self, index: u32, deflate: bool) -> usize {
        match self.form(index, deflate) {
            Form::Plain(body) => body.len(),
            Form::Deflated(_, payload, _) => payload.len(),
        }
    }

    /// Bytes between the id and the end of a message's frame.
    pub(crate) fn behind_id(&self, index: u32, deflate: bool) -> usize {
        let behind = self.encoding.behind_id();
        match self.form(index, deflate) {
            Form::Plain(_) => behind,
            // The byte that ends a payload.
            Form::Deflated(..) => behind + 1,
        }
    }

    /// Notes which of the frames from `start` on, with ids from `first` on, are perishable.
    #[inline]
    pub(crate) fn note_perishable(
        &self,
        perishable: &mut Vec<Perishable>,
        start: u32,
        places: (u32, u32),
        first: u64,
        deflate: bool,
    ) {
        // Hardly any batch has such messages.
        if self.expires != Time::NEVER {
            self.note_deadlines(perishable, start, places, first, deflate);
        }
    }

    #[cold]
    fn note_deadlines(
        &self,
        perishable: &mut Vec<Perishable>,
        mut start: u32,
        (from, count): (u32, u32),
        first: u64,
        deflate: bool,
    ) {
        for (index, id) in (from..from + count).zip(first..) {
            let payload = match self.form(index, deflate) {
                Form::Plain(body) => self.encoding.numbered_len(body.len(), id),
                Form::Deflated(_, payload, body_len) => {
                    self.encoding.deflated_len(payload.len(), body_len, id)
                }
            };
            let end = start + (frame::header_len(payload) + payload) as u32;
            if let Some(until) = self.until(index) {
                perishable.push(Perishable { start, end, until });
            }
            start = end;
        }
    }

    /// The place of one body in the batch.
    pub(crate) fn range(&self, index: u32) -> Range<usize> {
        range(&self.ends, index)
    }

    /// Bytes of `count` bodies from `from` on.
    pub(crate) fn bytes(&self, from: u32, count: u32) -> usize {
        if count == 0 { 0 } else { self.range(from + count - 1).end - self.range(from).start }
    }
}

/// What stands between the ends of one thing and the one before it.
fn range(ends: &[u32], index: u32) -> Range<usize> {
    let start = if index == 0 { 0 } else { ends[index as usize - 1] as usize };
    start..ends[index as usize] as usize
}
