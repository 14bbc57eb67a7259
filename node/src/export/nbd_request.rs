//! Is this request legal, and what does it want of the device?
//!
//! Pure: a header and what was agreed upon in, an [`Action`] or the error for this one request
//! out. An illegal request never ends the connection.

use super::device::{BLOCK_MAX, DeviceError};
use super::nbd_handshake::Session;
use super::nbd_wire::{Request, cmd, flag};

/// What a request wants of the device. Ranges lie inside the device and are not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read `len` bytes.
    Read {
        /// Where, in bytes.
        off: u64,
        /// How many bytes, at most [`BLOCK_MAX`].
        len: u32,
    },
    /// Write the data that came with the request.
    Write {
        /// Where, in bytes.
        off: u64,
        /// Durable when answered.
        fua: bool,
    },
    /// Make everything answered so far durable.
    Flush,
    /// Make a range read as zeroes.
    Zero {
        /// Where, in bytes.
        off: u64,
        /// How many bytes.
        len: u64,
        /// Durable when answered.
        fua: bool,
        /// Need not stay allocated.
        may_trim: bool,
    },
    /// Give up a range.
    Trim {
        /// Where, in bytes.
        off: u64,
        /// How many bytes.
        len: u64,
        /// Durable when answered.
        fua: bool,
    },
    /// Read ahead.
    Cache {
        /// Where, in bytes.
        off: u64,
        /// How many bytes.
        len: u64,
    },
    /// Say what is allocated.
    Map {
        /// Where, in bytes.
        off: u64,
        /// How many bytes.
        len: u64,
    },
    /// A legal request for nothing: OK without asking the device.
    Nothing,
    /// The client leaves; no reply.
    Leave,
}

/// What requests on this connection are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Size the client was told, in bytes.
    pub size: u64,
    /// Changes are refused.
    pub read_only: bool,
    /// FAST_ZERO was offered.
    pub zero_is_fast: bool,
    /// What was negotiated.
    pub session: Session,
}

/// What `request` asks for, or the error its client gets.
pub fn understand(request: &Request, terms: &Terms) -> Result<Action, DeviceError> {
    check_flags(request, terms)?;
    let Request {
        command,
        offset: off,
        len,
        flags,
        ..
    } = *request;
    let fua = flags & flag::FUA != 0;
    let long = u64::from(len);
    let action = match command {
        cmd::DISC => return Ok(Action::Leave),
        cmd::FLUSH if off == 0 && len == 0 => return Ok(Action::Flush),
        cmd::FLUSH => return Err(invalid("a flush has no range")),
        cmd::READ => Action::Read { off, len },
        cmd::WRITE => Action::Write { off, fua },
        cmd::WRITE_ZEROES => Action::Zero {
            off,
            len: long,
            fua,
            may_trim: flags & flag::NO_HOLE == 0,
        },
        cmd::TRIM => Action::Trim {
            off,
            len: long,
            fua,
        },
        cmd::CACHE => Action::Cache { off, len: long },
        cmd::BLOCK_STATUS => Action::Map { off, len: long },
        other => return Err(DeviceError::Invalid(format!("unknown command {other}"))),
    };
    check_range(request, terms)?;
    // The protocol leaves empty ranges undefined; doing nothing is what the least surprised expect.
    Ok(if len == 0 { Action::Nothing } else { action })
}

/// Flags that mean something for `command`.
fn legal_flags(command: u16) -> u16 {
    match command {
        cmd::READ => flag::FUA | flag::DF,
        cmd::WRITE_ZEROES => flag::FUA | flag::NO_HOLE | flag::FAST_ZERO,
        cmd::BLOCK_STATUS => flag::FUA | flag::REQ_ONE,
        _ => flag::FUA,
    }
}

fn check_flags(request: &Request, terms: &Terms) -> Result<(), DeviceError> {
    let unknown = request.flags & !legal_flags(request.command);
    if unknown != 0 {
        return Err(DeviceError::Invalid(format!(
            "flags {unknown:#x} are not for this command"
        )));
    }
    if request.flags & flag::FAST_ZERO != 0 && !terms.zero_is_fast {
        return Err(DeviceError::Unsupported(
            "fast zeroing was not offered".into(),
        ));
    }
    if request.flags & flag::DF != 0 && !terms.session.structured {
        return Err(invalid("DF without structured replies"));
    }
    if request.command == cmd::BLOCK_STATUS && !terms.session.block_status {
        return Err(invalid("block status without a meta context"));
    }
    Ok(())
}

fn check_range(request: &Request, terms: &Terms) -> Result<(), DeviceError> {
    let Request {
        command,
        offset,
        len,
        ..
    } = *request;
    let changes = matches!(command, cmd::WRITE | cmd::WRITE_ZEROES | cmd::TRIM);
    if changes && terms.read_only {
        return Err(DeviceError::ReadOnly);
    }
    if matches!(command, cmd::READ | cmd::WRITE) && len > BLOCK_MAX {
        return Err(DeviceError::Invalid(format!(
            "{len} bytes at once, at most {BLOCK_MAX} are allowed"
        )));
    }
    if command == cmd::BLOCK_STATUS && len == 0 {
        return Err(invalid("block status of an empty range"));
    }
    let end = offset.checked_add(u64::from(len));
    if end.is_some_and(|end| end <= terms.size) {
        return Ok(());
    }
    let text = format!(
        "{len} bytes at {offset} reach beyond the end of the device at {}",
        terms.size
    );
    Err(match command {
        cmd::WRITE | cmd::WRITE_ZEROES => DeviceError::NoSpace(text),
        _ => DeviceError::Invalid(text),
    })
}

fn invalid(text: &str) -> DeviceError {
    DeviceError::Invalid(text.to_owned())
}
