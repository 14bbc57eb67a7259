//! How an answer of the device looks on the wire.
//!
//! Reads are answered by one structured chunk when that was negotiated, so "don't fragment" is
//! always obeyed; everything else by a simple reply, which is shorter and legal in both modes.
//! Errors of reads and of block status carry a sentence where the mode allows it.

use bytes::{BufMut, Bytes};

use super::device::{DeviceError, Extent};
use super::in_flight::Outcome;
use super::nbd_handshake::Session;
use super::nbd_wire::{self as wire, Request, chunk, cmd, flag};
use super::outbox::Outbox;

/// Extents in one reply; a client asks again for the rest.
const EXTENTS_MAX: usize = 4096;

/// Puts the reply to `request` into `out`.
pub fn put_reply(
    out: &mut Outbox,
    session: Session,
    request: &Request,
    answer: Result<Outcome, DeviceError>,
) {
    let structured = session.structured && matches!(request.command, cmd::READ | cmd::BLOCK_STATUS);
    match answer.and_then(|outcome| check_outcome(request, outcome)) {
        Err(error) if structured => put_error(out, request.cookie, &error),
        Err(error) => out.put(&wire::simple_reply(request.cookie, error.nbd_errno())),
        Ok(Outcome::Read(data)) if structured => put_data(out, request, data),
        Ok(Outcome::Map(extents)) => put_extents(out, request, &extents),
        Ok(Outcome::Plain) if structured => {
            out.put(&wire::structured_header(request.cookie, chunk::NONE, 0));
        }
        Ok(Outcome::Read(data)) => {
            out.put(&wire::simple_reply(request.cookie, 0));
            out.put_data(data);
        }
        Ok(Outcome::Plain) => out.put(&wire::simple_reply(request.cookie, 0)),
    }
}

/// A device that answers another question than it was asked must not confuse the client's stream.
fn check_outcome(request: &Request, outcome: Outcome) -> Result<Outcome, DeviceError> {
    let fits = match &outcome {
        Outcome::Read(data) => data.len() == request.len as usize,
        Outcome::Map(extents) => extents.iter().any(|extent| extent.len > 0),
        Outcome::Plain => true,
    };
    if fits {
        return Ok(outcome);
    }
    let Request { offset, len, .. } = request;
    tracing::error!(
        offset,
        len,
        "the device answered a request with the wrong length"
    );
    Err(DeviceError::Io("answer of wrong length".into()))
}

fn put_data(out: &mut Outbox, request: &Request, data: Bytes) {
    out.put(&wire::structured_header(
        request.cookie,
        chunk::OFFSET_DATA,
        8 + request.len,
    ));
    out.put(&request.offset.to_be_bytes());
    out.put_data(data);
}

fn put_error(out: &mut Outbox, cookie: u64, error: &DeviceError) {
    let text = error.to_string();
    let text = &text.as_bytes()[..text.len().min(1024)];
    let mut data = Vec::with_capacity(6 + text.len());
    data.put_u32(error.nbd_errno());
    data.put_u16(text.len() as u16);
    data.put_slice(text);
    out.put(&wire::structured_header(
        cookie,
        chunk::ERROR,
        data.len() as u32,
    ));
    out.put(&data);
}

fn put_extents(out: &mut Outbox, request: &Request, extents: &[Extent]) {
    let max = if request.flags & flag::REQ_ONE != 0 {
        1
    } else {
        EXTENTS_MAX
    };
    let merged = merge(extents, request.len, max);
    let mut data = Vec::with_capacity(4 + 8 * merged.len());
    data.put_u32(wire::BASE_ALLOCATION_ID);
    for (len, state) in merged {
        data.put_u32(len);
        data.put_u32(state);
    }
    out.put(&wire::structured_header(
        request.cookie,
        chunk::BLOCK_STATUS,
        data.len() as u32,
    ));
    out.put(&data);
}

/// Neighbours of one kind become one; what reaches beyond `len` bytes or `max` extents is cut off.
fn merge(extents: &[Extent], len: u32, max: usize) -> Vec<(u32, u32)> {
    let mut merged: Vec<(u32, u32)> = Vec::new();
    let mut left = len;
    for extent in extents {
        let here = extent.len.min(u64::from(left)) as u32;
        let mut state = 0;
        if extent.hole {
            state |= wire::STATE_HOLE;
        }
        if extent.zero {
            state |= wire::STATE_ZERO;
        }
        let full = merged.len() == max;
        match merged.last_mut() {
            _ if here == 0 => {}
            Some((length, last)) if *last == state => *length += here,
            _ if full => break,
            _ => merged.push((here, state)),
        }
        left -= here;
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(len: u64) -> Extent {
        Extent {
            len,
            hole: false,
            zero: false,
        }
    }

    fn hole(len: u64) -> Extent {
        Extent {
            len,
            hole: true,
            zero: true,
        }
    }

    #[test]
    fn extents_of_one_kind_become_one_and_are_cut_at_the_end_of_the_request() {
        let extents = [data(10), data(20), hole(5), hole(0), hole(100)];
        assert_eq!(merge(&extents, 50, 9), [(30, 0), (20, 3)]);
    }

    #[test]
    fn one_extent_is_merged_before_the_list_is_cut() {
        assert_eq!(merge(&[data(10), data(20), hole(5)], 50, 1), [(30, 0)]);
    }
}
