//! Reading a bundle: each part is decrypted and verified before anybody sees it.

use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::format::{
    FORMAT, MANIFEST_LIMIT, Opening, Raised, SEGMENT_LIMIT, SealedManifest, SealedSegment, Segment,
    form, is_signed_by, long,
};
use crate::hash::Running;
use crate::key::{AgeIdentity, Signer, VerifyingKey};
use age::stream::StreamReader;
use keyferry_kmip::spec::{Operation, tag};
use keyferry_kmip::{DateTime, RequestItem, RequestMessage};
use keyferry_ttlv::{Decode, Frame, Framer, Raw, Reader, Tagged, Version};
use std::cell::Cell;
use std::io::{self, BufReader, Read};

/// How a bundle is taken.
#[derive(Debug)]
pub struct OpenOptions<'a> {
    /// Our server id: the bundle must be meant for it.
    pub server: &'a str,
    /// Whose signature counts. Without any, every bundle is refused.
    pub signers: &'a [Signer],
    /// What decrypts it.
    pub identity: &'a AgeIdentity,
    /// The time.
    pub now: DateTime,
    /// Bytes in a segment at the most ([`SEGMENT_LIMIT`]); that much memory is needed, several times over.
    pub segment_limit: usize,
}

impl<'a> OpenOptions<'a> {
    /// The usual ones.
    pub fn new(
        server: &'a str,
        signers: &'a [Signer],
        identity: &'a AgeIdentity,
        now: DateTime,
    ) -> Self {
        OpenOptions {
            server,
            signers,
            identity,
            now,
            segment_limit: SEGMENT_LIMIT,
        }
    }
}

/// A verified segment.
#[derive(Debug)]
#[non_exhaustive]
pub struct Part<'a> {
    /// The bundle it is from.
    pub manifest: &'a Manifest,
    /// The bundle's id: the hash of its signed manifest.
    pub bundle: [u8; 32],
    /// The hash of everything up to its end.
    pub hash: [u8; 32],
    /// Its number, from 1.
    pub number: u64,
    /// Imports in KMIP 2.1, none of which replaces anything.
    pub message: RequestMessage,
    /// What the sender knows of the states of its copies beyond their issuers.
    pub(crate) raised: Vec<Raised>,
}

/// A bundle that was taken to its end.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Opened {
    /// The manifest.
    pub manifest: Manifest,
    /// Objects that were handed out, destroyed ones included.
    pub objects: u64,
    /// Segments, the closing one included.
    pub segments: u64,
    /// The number in the sender's feed up to which everything was in it.
    pub cursor: i64,
}

/// Reads a bundle and hands out one verified segment after another. Memory holds a segment at a time.
///
/// A segment is handed out when its signature, its number and the hash of all before it are right, and what follows it is not known yet:
/// whatever makes a later one bad comes as an error after the sink has had those before. Taking them again is harmless, since a server
/// finds unchanged what it has; [`Receiving`](crate::Receiving) does not even do that.
///
/// # Errors
/// Those of the sink, and every [`ErrorKind`] from [`Io`](ErrorKind::Io) on: the manifest is checked against `options` before any
/// segment is read.
pub fn open<E: From<Error>>(
    input: impl Read,
    options: &OpenOptions<'_>,
    mut sink: impl FnMut(Part<'_>) -> Result<(), E>,
) -> Result<Opened, E> {
    let state = State::default();
    let mut file = File::open(input, options.identity, &state)?;
    let (manifest, key) = file.manifest(options.signers)?;
    manifest.check(options.server, options.now)?;
    let bundle = file.before.so_far();
    let (mut number, mut objects) = (0, 0);
    loop {
        number += 1;
        let segment = file.segment(&key, number, options.segment_limit)?;
        let message = segment.request.as_ref().map(message).transpose()?;
        objects += message
            .as_ref()
            .map_or(0, |message| message.batch.len() as u64);
        if segment.objects != long(objects) {
            return Err(wrong(
                ErrorKind::Content,
                number,
                "does not count the objects up to it",
            )
            .into());
        }
        if segment.last != message.is_none() {
            return Err(wrong(
                ErrorKind::Content,
                number,
                "is marked as the last and is not, or the other way round",
            )
            .into());
        }
        match message {
            Some(message) => sink(Part {
                manifest: &manifest,
                bundle,
                hash: file.before.so_far(),
                number,
                message,
                raised: segment.raised,
            })?,
            None => {
                file.end()?;
                return Ok(Opened {
                    manifest,
                    objects,
                    segments: number,
                    cursor: segment.cursor,
                });
            }
        }
    }
}

/// Reads what a bundle says about itself, and nothing behind it: no key material. The signature is checked; whom the bundle is meant for
/// and whether its time is over is not: see [`Manifest::check`].
///
/// # Errors
/// Like [`open`].
pub fn manifest(input: impl Read, signers: &[Signer], identity: &AgeIdentity) -> Result<Manifest> {
    let state = State::default();
    Ok(File::open(input, identity, &state)?.manifest(signers)?.0)
}

/// The decrypted parts of a bundle.
struct File<'s, R: Read> {
    input: StreamReader<BufReader<Guarded<'s, R>>>,
    state: &'s State,
    before: Running,
}

impl<'s, R: Read> File<'s, R> {
    fn open(input: R, identity: &AgeIdentity, state: &'s State) -> Result<Self> {
        let input = BufReader::with_capacity(BUFFER, Guarded { input, state });
        let decryptor =
            age::Decryptor::new_buffered(input).map_err(|error| decrypting(error, state))?;
        let identity = identity.boxed();
        let input = decryptor
            .decrypt(std::iter::once(&*identity))
            .map_err(|error| decrypting(error, state))?;
        state.header_bytes.set(None);
        Ok(File {
            input,
            state,
            before: Running::new(),
        })
    }

    /// The next part, whole; `None` at the end of the file.
    fn part(&mut self, limit: usize) -> Result<Option<Frame>> {
        let mut framer = Framer::new(limit);
        loop {
            match self.input.read(framer.space()) {
                Ok(0) if framer.is_midway() => {
                    return Err(Error::new(
                        ErrorKind::Unfinished,
                        "the bundle ends within a segment",
                    ));
                }
                Ok(0) => return Ok(None),
                Ok(n) => framer.filled(n).map_err(|error| match error.kind() {
                    keyferry_ttlv::ErrorKind::Size { .. } => Error::new(
                        ErrorKind::TooLarge,
                        format_args!("a part of the bundle has {error}"),
                    ),
                    _ => malformed(error),
                })?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.reading(&error)),
            }
            if let Some(frame) = framer.frame() {
                return Ok(Some(frame));
            }
        }
    }

    fn reading(&self, error: &io::Error) -> Error {
        if self.state.failed.get() {
            return unreadable(error);
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => truncated(),
            _ if self.state.ended.get() => truncated(),
            _ => damaged(),
        }
    }

    fn manifest(&mut self, signers: &[Signer]) -> Result<(Manifest, VerifyingKey)> {
        let part = self
            .part(MANIFEST_LIMIT)?
            .ok_or_else(|| Error::new(ErrorKind::Malformed, "the file is empty"))?;
        let sealed: SealedManifest = decode(&part)?;
        let opening: Opening = sealed.content.read(form()).map_err(malformed)?;
        if opening.format != FORMAT {
            return Err(Error::new(
                ErrorKind::Format,
                format_args!(
                    "the bundle has format {}, and only {FORMAT} is known here",
                    opening.format
                ),
            ));
        }
        let signer = signers
            .iter()
            .find(|signer| signer.key.id() == *opening.signer);
        let Some(Signer { key, .. }) = signer else {
            return Err(Error::new(
                ErrorKind::UnknownSigner,
                "the bundle is signed with a key that is not trusted here",
            ));
        };
        if !is_signed_by(key, &sealed.content, &sealed.signature) {
            return Err(Error::new(
                ErrorKind::Signature,
                "the signature of the manifest is wrong",
            ));
        }
        let manifest: Manifest = sealed.content.read(form()).map_err(malformed)?;
        if !signers
            .iter()
            .any(|signer| signer.key == *key && signer.server == manifest.sender)
        {
            return Err(Error::new(
                ErrorKind::WrongSender,
                format_args!(
                    "the bundle says it is from {:?}, and its signer is not trusted to speak for that server",
                    manifest.sender
                ),
            ));
        }
        self.before.update(&part);
        Ok((manifest, *key))
    }

    /// The next segment, if it is the right one.
    fn segment(&mut self, key: &VerifyingKey, number: u64, limit: usize) -> Result<Segment> {
        let Some(part) = self.part(limit)? else {
            return Err(Error::new(
                ErrorKind::Unfinished,
                "the bundle has no last segment: its end is missing",
            ));
        };
        let sealed: SealedSegment = decode(&part)?;
        if !is_signed_by(key, &sealed.content, &sealed.signature) {
            return Err(wrong(ErrorKind::Signature, number, "has a wrong signature"));
        }
        let segment: Segment = sealed.content.read(form()).map_err(malformed)?;
        if segment.number < long(number) {
            return Err(wrong(
                ErrorKind::Repeated,
                number,
                format_args!("is number {} once more", segment.number),
            ));
        }
        if segment.number > long(number) {
            return Err(wrong(
                ErrorKind::OutOfOrder,
                number,
                format_args!("is missing; number {} stands in its place", segment.number),
            ));
        }
        if segment.before != self.before.so_far() {
            return Err(wrong(
                ErrorKind::Chain,
                number,
                "does not belong behind those before it",
            ));
        }
        self.before.update(&part);
        Ok(segment)
    }

    /// Fails when anything follows.
    fn end(&mut self) -> Result<()> {
        loop {
            match self.input.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    return Err(Error::new(
                        ErrorKind::Trailing,
                        "something stands behind the last segment",
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.reading(&error)),
            }
        }
    }
}

/// A segment's message, if it holds nothing but what a bundle may hold: a signer is trusted with copies, not with other operations.
fn message(request: &Raw) -> Result<RequestMessage> {
    let message: RequestMessage = request.read(form()).map_err(malformed)?;
    let version = message.version().map_err(malformed)?;
    let header = &message.header;
    let plain = version == Version::V2_1
        && usize::try_from(header.batch_count) == Ok(message.batch.len())
        && !message.batch.is_empty()
        && header.authentication.is_none();
    if !plain {
        return Err(Error::new(
            ErrorKind::Content,
            "a segment's request has a header that it may not have",
        ));
    }
    match message
        .batch
        .iter()
        .try_fold(true, |all, item| Ok(all && is_plain_import(item)?))
        .map_err(malformed)?
    {
        true => Ok(message),
        false => Err(Error::new(
            ErrorKind::Content,
            "a segment asks for something else than an Import that replaces nothing",
        )),
    }
}

fn is_plain_import(item: &RequestItem) -> keyferry_ttlv::Result<bool> {
    if item.operation != Operation::IMPORT {
        return Ok(false);
    }
    let r = Reader::new(item.request_payload.bytes(), form());
    let mut fields = r.children(item.request_payload.item()?)?;
    while let Some(field) = fields.next(&r)? {
        if field.tag() == tag::REPLACE_EXISTING && field.boolean(&r)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn decode<T: Decode + Tagged>(part: &Frame) -> Result<T> {
    keyferry_ttlv::decode(part, form()).map_err(malformed)
}

fn wrong(kind: ErrorKind, number: u64, what: impl std::fmt::Display) -> Error {
    Error::new(kind, format_args!("segment {number} {what}"))
}

fn malformed(error: keyferry_ttlv::Error) -> Error {
    Error::new(
        ErrorKind::Malformed,
        format_args!("the bundle has not the form of one: {error}"),
    )
}

fn truncated() -> Error {
    Error::new(
        ErrorKind::Truncated,
        "the bundle was cut short, or its end was altered",
    )
}

fn damaged() -> Error {
    Error::new(
        ErrorKind::Damaged,
        "the bundle was altered: it does not authenticate",
    )
}

fn unreadable(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format_args!("the bundle can't be read: {error}"),
    )
}

fn decrypting(error: age::DecryptError, state: &State) -> Error {
    use age::DecryptError as D;
    match error {
        D::Io(error) if state.failed.get() => unreadable(&error),
        D::Io(_) if state.header_bytes.get() == Some(0) => {
            Error::new(ErrorKind::TooLarge, "the header of the age file has no end")
        }
        D::Io(_) => truncated(),
        // A wrong passphrase is a failed decryption.
        D::NoMatchingKeys | D::KeyDecryptionFailed | D::DecryptionFailed => Error::new(
            ErrorKind::NotForThisKey,
            "the bundle is not encrypted to this key or passphrase",
        ),
        D::ExcessiveWork { required, .. } => Error::new(
            ErrorKind::TooLarge,
            format_args!("trying the passphrase takes too much work here (2^{required})"),
        ),
        D::InvalidMac => damaged(),
        _ => Error::new(
            ErrorKind::NotABundle,
            "this is no age file of a version that is known here",
        ),
    }
}

const BUFFER: usize = 64 << 10;

/// Bytes that may be read until the header of the age file has ended: age itself has no limit. What is buffered behind it counts too.
const HEADER_LIMIT: usize = 64 << 10;

/// What became of the input.
struct State {
    /// What is left for the header; `None` once it was read.
    header_bytes: Cell<Option<usize>>,
    /// It said that it is at its end.
    ended: Cell<bool>,
    /// It failed by itself.
    failed: Cell<bool>,
}

impl Default for State {
    fn default() -> Self {
        State {
            header_bytes: Cell::new(Some(HEADER_LIMIT + BUFFER)),
            ended: Cell::new(false),
            failed: Cell::new(false),
        }
    }
}

/// The input, watched: behind age, a failure to read can't be told from one to decrypt.
struct Guarded<'s, R> {
    input: R,
    state: &'s State,
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let allowed = match self.state.header_bytes.get() {
            Some(0) => return Err(io::Error::other("too long a header")),
            Some(left) => left.min(buffer.len()),
            None => buffer.len(),
        };
        let place = buffer.get_mut(..allowed).unwrap_or_default();
        let n = self.input.read(place).inspect_err(|error| {
            self.state
                .failed
                .set(error.kind() != io::ErrorKind::Interrupted)
        })?;
        self.state.ended.set(n == 0 && allowed > 0);
        self.state.header_bytes.set(
            self.state
                .header_bytes
                .get()
                .map(|left| left.saturating_sub(n)),
        );
        Ok(n)
    }
}
