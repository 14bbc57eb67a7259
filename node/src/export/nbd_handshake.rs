//! Which export does this client want, and what does it understand?
//!
//! The negotiation as a pure state machine: bytes in, bytes out, no socket and no clock. It knows
//! the exports only through [`Catalog`]. Whatever a client sends, one option costs at most
//! [`OPTION_BYTES_MAX`] of memory; longer ones are skipped and refused. The time limit and the
//! socket are in `server.rs`.
//!
//! ```text
//!   ClientFlags ──► Options ──GO, EXPORT_NAME──► Serve
//!                    │  ▲ ├──STARTTLS──────────► StartTls, then Options again, encrypted
//!          too long ▼  │ └──ABORT─────────────► Bye
//!                   Skipping
//! ```

use bytes::{Buf, BufMut, BytesMut};

use super::device::{BLOCK_MAX, BLOCK_MIN, BLOCK_PREFERRED};
use super::exports::{NAME_BYTES_MAX, Refusal};
use super::nbd_wire::{self as wire, OptionHeader, can, info, opt, put_option_reply, rep};

/// Longest option that is looked at, in bytes; the longest sensible one is a name and a few queries.
pub const OPTION_BYTES_MAX: usize = 64 << 10;
const _: () = assert!(OPTION_BYTES_MAX >= 4 * NAME_BYTES_MAX);

/// What a client is told about an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Size in bytes.
    pub size: u64,
    /// Every change is refused.
    pub read_only: bool,
    /// Writing zeroes is always faster than writing data.
    pub zero_is_fast: bool,
    /// A line for people.
    pub description: String,
}

/// The exports as the negotiation sees them.
pub trait Catalog {
    /// Names of all exports that can be opened, sorted.
    fn names(&self) -> Vec<String>;
    /// About one export, without opening it.
    fn look(&self, name: &str) -> Result<ExportInfo, Refusal>;
    /// Opens the export for this client; called at most once with success.
    fn open(&mut self, name: &str) -> Result<ExportInfo, Refusal>;
}

/// What was agreed upon for the transmission phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Reads are answered by structured replies.
    pub structured: bool,
    /// `base:allocation` was selected, so BLOCK_STATUS is allowed.
    pub block_status: bool,
}

/// Whether the connection is encrypted, or has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not offered here.
    Absent,
    /// Nothing but STARTTLS is answered until it has happened.
    Required,
    /// It has happened.
    Running,
}

/// What to do after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Receive more bytes, then go on.
    Receive,
    /// Send what is in the output, then go on.
    Send,
    /// Send, then go on with TLS; what was received behind the request is not trusted.
    StartTls,
    /// Send, then serve the export that was opened.
    Serve(Session),
    /// Send, then close: the client has asked for it.
    Bye,
}

/// Why the connection has to be closed without a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It wants something of this protocol which does not exist yet.
    #[error("client flags {0:#x} contain unknown bits")]
    ClientFlags(u32),
    /// Not NBD at all, or out of step.
    #[error("option begins with {0:#018x} instead of IHAVEOPT")]
    Magic(u64),
    /// A client that cannot be answered asks for something that needs an answer.
    #[error("option {0} from a client without fixed newstyle negotiation")]
    NotFixed(u32),
    /// EXPORT_NAME has no way to say no.
    #[error("export {name}: {why}")]
    Refused {
        /// What was asked for.
        name: String,
        /// Why not.
        why: String,
    },
}

enum State {
    /// The greeting was sent, the client's flags are missing.
    ClientFlags,
    /// Waiting for an option.
    Options,
    /// Throwing away the data of an option that is too long; refused when all has passed.
    Skipping { option: u32, left: u64 },
}

/// The negotiation with one client.
pub struct Handshake {
    state: State,
    tls: Tls,
    fixed: bool,
    no_zeroes: bool,
    structured: bool,
    /// The export for which `base:allocation` was selected.
    meta_context_of: Option<String>,
}

impl Handshake {
    /// Begins after the greeting was sent.
    pub fn new(tls: Tls) -> Self {
        Handshake {
            state: State::ClientFlags,
            tls,
            fixed: false,
            no_zeroes: false,
            structured: false,
            meta_context_of: None,
        }
    }

    /// TLS runs now: all that was agreed upon in the clear is forgotten, but for the client flags.
    pub fn tls_started(&mut self) {
        self.tls = Tls::Running;
        self.structured = false;
        self.meta_context_of = None;
    }

    /// Takes at most one option from `input`, appends the reply to `out`.
    pub fn advance(
        &mut self,
        input: &mut BytesMut,
        catalog: &mut dyn Catalog,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        match self.state {
            State::ClientFlags => self.client_flags(input),
            State::Options => self.option(input, catalog, out),
            State::Skipping { option, left } => Ok(self.skip(input, option, left, out)),
        }
    }

    fn client_flags(&mut self, input: &mut BytesMut) -> Result<Step, HandshakeError> {
        if input.len() < 4 {
            return Ok(Step::Receive);
        }
        let flags = input.get_u32();
        if flags & !(wire::FIXED_NEWSTYLE | wire::NO_ZEROES) != 0 {
            return Err(HandshakeError::ClientFlags(flags));
        }
        self.fixed = flags & wire::FIXED_NEWSTYLE != 0;
        self.no_zeroes = flags & wire::NO_ZEROES != 0;
        self.state = State::Options;
        Ok(Step::Send)
    }

    fn option(
        &mut self,
        input: &mut BytesMut,
        catalog: &mut dyn Catalog,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        let Some(header) = input.first_chunk() else {
            return Ok(Step::Receive);
        };
        let OptionHeader { magic, option, len } = OptionHeader::decode(header);
        if magic != wire::OPTION_MAGIC {
            return Err(HandshakeError::Magic(magic));
        }
        if !self.fixed && option != opt::EXPORT_NAME {
            return Err(HandshakeError::NotFixed(option));
        }
        let len = len as usize;
        if len > OPTION_BYTES_MAX {
            input.advance(wire::OPTION_HEADER_BYTES);
            return self.begin_skipping(option, len);
        }
        if input.len() < wire::OPTION_HEADER_BYTES + len {
            return Ok(Step::Receive);
        }
        input.advance(wire::OPTION_HEADER_BYTES);
        let data = input.split_to(len);
        self.answer(option, &data, catalog, out)
    }

    fn begin_skipping(&mut self, option: u32, len: usize) -> Result<Step, HandshakeError> {
        if option == opt::EXPORT_NAME {
            let name = format!("of {len} bytes");
            return Err(HandshakeError::Refused {
                name,
                why: "name too long".into(),
            });
        }
        self.state = State::Skipping {
            option,
            left: len as u64,
        };
        Ok(Step::Send)
    }

    fn skip(&mut self, input: &mut BytesMut, option: u32, left: u64, out: &mut Vec<u8>) -> Step {
        let here = left.min(input.len() as u64);
        input.advance(here as usize);
        if here < left {
            self.state = State::Skipping {
                option,
                left: left - here,
            };
            return Step::Receive;
        }
        put_error(out, option, rep::ERR_TOO_BIG, "option too long");
        self.state = State::Options;
        Step::Send
    }

    fn answer(
        &mut self,
        option: u32,
        data: &[u8],
        catalog: &mut dyn Catalog,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        if self.tls == Tls::Required && !matches!(option, opt::STARTTLS | opt::ABORT) {
            if option == opt::EXPORT_NAME {
                let name = String::from_utf8_lossy(data).into_owned();
                return Err(HandshakeError::Refused {
                    name,
                    why: "TLS is required".into(),
                });
            }
            put_error(out, option, rep::ERR_TLS_REQD, "this server requires TLS");
            return Ok(Step::Send);
        }
        match option {
            opt::EXPORT_NAME => return self.export_name(data, catalog, out),
            opt::ABORT => {
                put_option_reply(out, option, rep::ACK, &[]);
                return Ok(Step::Bye);
            }
            opt::STARTTLS => return Ok(self.start_tls(data, out)),
            opt::GO => return Ok(self.go(data, catalog, out)),
            opt::INFO => self.info(data, catalog, out),
            opt::LIST => list(data, catalog, out),
            opt::STRUCTURED_REPLY => self.structured_reply(data, out),
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => {
                self.meta_context(option, data, catalog, out);
            }
            _ => put_error(out, option, rep::ERR_UNSUP, "unknown option"),
        }
        Ok(Step::Send)
    }

    fn export_name(
        &mut self,
        data: &[u8],
        catalog: &mut dyn Catalog,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        let name = String::from_utf8_lossy(data).into_owned();
        match catalog.open(&name) {
            Ok(export) => {
                out.put_u64(export.size);
                out.put_u16(self.transmission_flags(&export));
                if !self.no_zeroes {
                    out.put_bytes(0, 124);
                }
                Ok(Step::Serve(self.session(&name)))
            }
            Err(refusal) => Err(HandshakeError::Refused {
                name,
                why: refusal.to_string(),
            }),
        }
    }

    fn start_tls(&self, data: &[u8], out: &mut Vec<u8>) -> Step {
        if !data.is_empty() {
            put_error(
                out,
                opt::STARTTLS,
                rep::ERR_INVALID,
                "STARTTLS carries no data",
            );
            return Step::Send;
        }
        match self.tls {
            Tls::Required => {
                put_option_reply(out, opt::STARTTLS, rep::ACK, &[]);
                Step::StartTls
            }
            Tls::Absent => {
                put_error(
                    out,
                    opt::STARTTLS,
                    rep::ERR_UNSUP,
                    "TLS is not offered here",
                );
                Step::Send
            }
            Tls::Running => {
                put_error(out, opt::STARTTLS, rep::ERR_INVALID, "TLS runs already");
                Step::Send
            }
        }
    }

    fn go(&mut self, data: &[u8], catalog: &mut dyn Catalog, out: &mut Vec<u8>) -> Step {
        let Some((name, wanted)) = parse_info(data) else {
            put_error(
                out,
                opt::GO,
                rep::ERR_INVALID,
                "malformed request for an export",
            );
            return Step::Send;
        };
        match catalog.open(&name) {
            Ok(export) => {
                self.put_info(out, opt::GO, &name, &wanted, &export);
                Step::Serve(self.session(&name))
            }
            Err(refusal) => {
                put_refusal(out, opt::GO, refusal);
                Step::Send
            }
        }
    }

    fn info(&self, data: &[u8], catalog: &dyn Catalog, out: &mut Vec<u8>) {
        let Some((name, wanted)) = parse_info(data) else {
            return put_error(
                out,
                opt::INFO,
                rep::ERR_INVALID,
                "malformed request for an export",
            );
        };
        match catalog.look(&name) {
            Ok(export) => self.put_info(out, opt::INFO, &name, &wanted, &export),
            Err(refusal) => put_refusal(out, opt::INFO, refusal),
        }
    }

    /// Size and flags always, the rest when asked for, then the end mark.
    fn put_info(
        &self,
        out: &mut Vec<u8>,
        option: u32,
        name: &str,
        wanted: &[u16],
        export: &ExportInfo,
    ) {
        let mut data = Vec::new();
        data.put_u16(info::EXPORT);
        data.put_u64(export.size);
        data.put_u16(self.transmission_flags(export));
        put_option_reply(out, option, rep::INFO, &data);
        for kind in [info::NAME, info::DESCRIPTION, info::BLOCK_SIZE] {
            if !wanted.contains(&kind) {
                continue;
            }
            data.clear();
            data.put_u16(kind);
            match kind {
                info::NAME => data.put_slice(name.as_bytes()),
                info::DESCRIPTION => data.put_slice(export.description.as_bytes()),
                _ => [BLOCK_MIN, BLOCK_PREFERRED, BLOCK_MAX]
                    .into_iter()
                    .for_each(|size| data.put_u32(size)),
            }
            put_option_reply(out, option, rep::INFO, &data);
        }
        put_option_reply(out, option, rep::ACK, &[]);
    }

    fn structured_reply(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let option = opt::STRUCTURED_REPLY;
        if !data.is_empty() {
            return put_error(out, option, rep::ERR_INVALID, "this option carries no data");
        }
        self.structured = true;
        put_option_reply(out, option, rep::ACK, &[]);
    }

    fn meta_context(&mut self, option: u32, data: &[u8], catalog: &dyn Catalog, out: &mut Vec<u8>) {
        let set = option == opt::SET_META_CONTEXT;
        if set {
            // A new selection replaces the old one, also when it fails.
            self.meta_context_of = None;
        }
        if !self.structured {
            return put_error(
                out,
                option,
                rep::ERR_INVALID,
                "needs structured replies first",
            );
        }
        let Some((name, queries)) = parse_queries(data) else {
            return put_error(out, option, rep::ERR_INVALID, "malformed list of contexts");
        };
        if let Err(refusal) = catalog.look(&name) {
            return put_refusal(out, option, refusal);
        }
        let exact = queries.iter().any(|query| query == wire::BASE_ALLOCATION);
        let listed = queries.is_empty() || queries.iter().any(|query| query == "base:");
        if exact || (!set && listed) {
            let mut data = Vec::new();
            data.put_u32(if set { wire::BASE_ALLOCATION_ID } else { 0 });
            data.put_slice(wire::BASE_ALLOCATION.as_bytes());
            put_option_reply(out, option, rep::META_CONTEXT, &data);
        }
        if set && exact {
            self.meta_context_of = Some(name);
        }
        put_option_reply(out, option, rep::ACK, &[]);
    }

    fn session(&self, name: &str) -> Session {
        Session {
            structured: self.structured,
            block_status: self.meta_context_of.as_deref() == Some(name),
        }
    }

    fn transmission_flags(&self, export: &ExportInfo) -> u16 {
        let mut flags = can::HAS_FLAGS | can::FLUSH | can::MULTI_CONN | can::CACHE;
        if self.structured {
            flags |= can::DF;
        }
        if export.read_only {
            return flags | can::READ_ONLY;
        }
        flags |= can::FUA | can::TRIM | can::WRITE_ZEROES;
        if export.zero_is_fast {
            flags |= can::FAST_ZERO;
        }
        flags
    }
}

fn list(data: &[u8], catalog: &dyn Catalog, out: &mut Vec<u8>) {
    if !data.is_empty() {
        return put_error(out, opt::LIST, rep::ERR_INVALID, "LIST carries no data");
    }
    for name in catalog.names() {
        let mut data = Vec::new();
        data.put_u32(name.len() as u32);
        data.put_slice(name.as_bytes());
        if let Ok(export) = catalog.look(&name) {
            data.put_slice(export.description.as_bytes());
        }
        put_option_reply(out, opt::LIST, rep::SERVER, &data);
    }
    put_option_reply(out, opt::LIST, rep::ACK, &[]);
}

fn put_refusal(out: &mut Vec<u8>, option: u32, refusal: Refusal) {
    let kind = match refusal {
        Refusal::Unknown => rep::ERR_UNKNOWN,
        Refusal::Closing => rep::ERR_SHUTDOWN,
    };
    put_error(out, option, kind, &refusal.to_string());
}

/// Errors carry a sentence that clients show to people.
fn put_error(out: &mut Vec<u8>, option: u32, kind: u32, text: &str) {
    put_option_reply(out, option, kind, text.as_bytes());
}

/// Data of INFO and GO: name, and the kinds of information wanted.
fn parse_info(mut data: &[u8]) -> Option<(String, Vec<u16>)> {
    let name = take_string(&mut data)?;
    let count = data.try_get_u16().ok()?;
    let wanted: Vec<u16> = (0..count).map_while(|_| data.try_get_u16().ok()).collect();
    (wanted.len() == usize::from(count) && data.is_empty()).then_some((name, wanted))
}

/// Data of LIST_META_CONTEXT and SET_META_CONTEXT: name, and queries for contexts.
fn parse_queries(mut data: &[u8]) -> Option<(String, Vec<String>)> {
    let name = take_string(&mut data)?;
    let count = data.try_get_u32().ok()?;
    // Ends with the data, so a boastful count costs nothing.
    let queries: Vec<String> = (0..count).map_while(|_| take_string(&mut data)).collect();
    (queries.len() == count as usize && data.is_empty()).then_some((name, queries))
}

fn take_string(data: &mut &[u8]) -> Option<String> {
    let len = data.try_get_u32().ok()? as usize;
    if len > NAME_BYTES_MAX {
        return None;
    }
    let (text, rest) = data.split_at_checked(len)?;
    *data = rest;
    String::from_utf8(text.to_vec()).ok()
}
