//! Making a bundle: one pass over the feed, segment by segment.

use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::format::{
    FORMAT, MANIFEST_LIMIT, Raised, SEGMENT_LIMIT, Segment, encode, form, long, sealed,
};
use crate::hash::Running;
use crate::key::{AgeRecipient, SigningKey};
use crate::offer::{Offer, number};
use age::stream::StreamWriter;
use keyferry_kmip::spec::BatchErrorContinuationOption;
use keyferry_kmip::{DateTime, Now, Object, RequestItem, RequestMessage, Text, extension as x};
use keyferry_s2s::{
    FailedObject, FeedPage, Node, Selection, SendOptions, Sender, Strategy, Wrapping,
    reason_withheld, request_item,
};
use keyferry_store::{Home, Record, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Encode, Extra, Raw, Tagged, Version};
use std::io::Write;

/// How a bundle is made.
pub struct SealOptions<'a> {
    /// Who we are: what [`StoreExt::home`] returned.
    pub home: &'a Home,
    /// The server id of the only server that may take the bundle.
    pub recipient: Text,
    /// Our signature.
    pub key: &'a SigningKey,
    /// Who can read it: one of them, or several X25519 recipients.
    pub readers: &'a [AgeRecipient],
    /// The time.
    pub now: DateTime,
    /// When nobody takes it any more.
    pub expires: DateTime,
    /// Which objects (all). Destroyed ones belong to it, too.
    pub selection: Selection,
    /// Wraps key material in the bundle; what is Sensitive goes then, too (not wrapped: Sensitive objects stay). The node is that of the store;
    /// the recipient unwraps with the key that it has under the other identifier. Under an RSA key the transport key goes first, as one more
    /// object, if [`renew_transport_key`](keyferry_s2s::renew_transport_key) has made one for it; without one, only what fits the RSA key goes.
    pub wrapping: Option<(&'a Node, Wrapping)>,
    /// Objects in a segment at the most (250).
    pub batch: usize,
    /// Bytes of material and attributes in a segment, about (512 KiB).
    pub batch_bytes: usize,
}

impl<'a> SealOptions<'a> {
    /// The usual ones.
    pub fn new(
        home: &'a Home,
        recipient: impl Into<Text>,
        key: &'a SigningKey,
        readers: &'a [AgeRecipient],
        now: DateTime,
        expires: DateTime,
    ) -> Self {
        SealOptions {
            home,
            recipient: recipient.into(),
            key,
            readers,
            now,
            expires,
            selection: Selection::everything(),
            wrapping: None,
            batch: 250,
            batch_bytes: 512 * 1024,
        }
    }
}

impl std::fmt::Debug for SealOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealOptions")
            .field("sender", &self.home.server)
            .field("recipient", &self.recipient)
            .finish_non_exhaustive()
    }
}

/// What went into a bundle. `objects + left` is what was selected of the feed.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// The manifest.
    pub manifest: Manifest,
    /// Objects in it, destroyed ones included.
    pub objects: u64,
    /// Those of them that are destroyed.
    pub tombstones: u64,
    /// Objects that are not in it.
    pub left: u64,
    /// The first hundred of these, with the reasons.
    pub named: Vec<FailedObject>,
    /// Segments, the closing one included.
    pub segments: u64,
    /// Bytes before encryption.
    pub bytes: u64,
    /// The number in our feed up to which everything is in it.
    pub cursor: u64,
}

const TERMS: SendOptions = SendOptions {
    strategy: Strategy::Import,
    version: Version::V2_1,
    keyferry: true,
    session: None,
    dry_run: false,
    wrapped: false,
};

/// How many of the objects that are left out a report names.
const NAMED: usize = 100;

/// What an item takes beside its payload and the content of its extension, generously.
const AROUND_ITEM: usize = 256;

/// What a segment takes beside its items, generously.
const AROUND_ITEMS: usize = 4096;

/// Writes the selected objects of `store` into a bundle: one pass over the feed, until there is nothing further. Memory holds a segment at a
/// time, whatever the number of objects.
///
/// The store keeps in mind what the recipient was offered. Of an object that a selection has no more, which was offered in an earlier bundle
/// and is deactivated, compromised or destroyed by now, the recipient is told so, without its material.
///
/// Where it fails the output is not a bundle, and is refused as [`Truncated`](ErrorKind::Truncated). The output is flushed at the end.
///
/// # Errors
/// [`ErrorKind::Misuse`] for a bundle that nobody could read or that has expired already, or a selection that can't be looked for, [`ErrorKind::Store`], [`ErrorKind::Io`]. An
/// object that may not leave, or has no form, is left out and reported.
pub fn seal(store: &dyn Store, options: &SealOptions<'_>, output: impl Write) -> Result<Sealed> {
    check(options)?;
    let mut offer = Offer::new(store, &options.recipient, &options.selection, options.now)?;
    let output = encrypted(options.readers, output)?;
    let sender = Sender::of(options.home);
    let from = (&sender, store);
    let (transport, first) = transport(from, options)?;
    // Among all objects it is counted already.
    let is_more = first.is_some() && !options.selection.is_everything();
    let count = offer.count(store)? + u64::from(is_more);
    let manifest = manifest(store, options, count)?;
    let mut bundle = Bundle::begin(options, output, manifest)?;
    if let Some(first) = first {
        bundle.add(first)?;
    }
    let wrapping = transport.as_ref().or(options.wrapping.as_ref());
    while let Some(FeedPage { objects, end, .. }) = offer.page(
        store,
        bundle.report.cursor,
        options.batch,
        options.batch_bytes.max(1),
    )? {
        let mut ready = Vec::with_capacity(objects.len());
        for (number, record, object) in objects {
            let offered = reason_withheld(&record, options.wrapping.is_some()).is_some()
                && offer.has(store, number)?;
            let whole = (record, object);
            let prepared = prepare(from, options, wrapping, whole, offered)?;
            ready.push((number, prepared));
        }
        let sent = ready.iter().filter(|(_, prepared)| prepared.item.is_ok());
        let numbers: Vec<_> = sent.map(|(number, _)| *number).collect();
        offer.note(store, &numbers)?;
        for (_, prepared) in ready {
            bundle.add(prepared)?;
        }
        bundle.report.cursor = end;
        bundle.segment(false)?;
    }
    bundle.segment(true)?;
    let mut output = bundle.output.finish().map_err(writing)?;
    output.flush().map_err(writing)?;
    Ok(bundle.report)
}

/// The wrapping under the transport key, and that key, ready to go first under the RSA key, if there is one and it can go.
fn transport<'a>(
    from: (&Sender, &dyn Store),
    options: &SealOptions<'a>,
) -> Result<(Option<(&'a Node, Wrapping)>, Option<Prepared>)> {
    let Some((node, under)) = &options.wrapping else {
        return Ok((None, None));
    };
    let found = from.1.view::<_, Error>(|snapshot| {
        let Some(key) = node.transport_key(snapshot, under, options.now)? else {
            return Ok(None);
        };
        Ok(snapshot.whole(key.number)?.map(|whole| (key, whole)))
    })?;
    let Some((key, whole)) = found else {
        return Ok((None, None));
    };
    let first = prepare(from, options, options.wrapping.as_ref(), whole, false)?;
    if first.item.is_err() {
        return Ok((None, None));
    }
    Ok((Some((*node, key.wrapping)), Some(first)))
}

/// Fails unless somebody can take the bundle.
fn check(options: &SealOptions<'_>) -> Result<()> {
    if options.expires <= options.now {
        return Err(Error::new(
            ErrorKind::Misuse,
            "the bundle would have expired when it is made",
        ));
    }
    if options.batch == 0 {
        return Err(Error::new(
            ErrorKind::Misuse,
            "a segment needs room for an object",
        ));
    }
    Ok(())
}

/// What the bundle says about itself.
fn manifest(store: &dyn Store, options: &SealOptions<'_>, objects: u64) -> Result<Manifest> {
    let head = store.view::<_, Error>(|snapshot| Ok(snapshot.head()?))?;
    Ok(Manifest {
        format: FORMAT,
        signer: options.key.verifying_key().id().to_vec(),
        sender: options.home.server.clone(),
        instance: options.home.instance.clone(),
        recipient: options.recipient.clone(),
        incarnation: head.incarnation.0.to_vec(),
        position: long(head.number),
        commit: head.commit.0.to_vec(),
        number: number(store, &options.recipient)?,
        selection: options.selection.clone(),
        objects: long(objects),
        created: options.now,
        expires: options.expires,
        extra: Extra::NONE,
    })
}

/// An object that is ready for its segment, or the reason why it stays.
struct Prepared {
    identifier: Text,
    is_destroyed: bool,
    /// The State that the sender knows of, where the copy itself has another one.
    raised: Option<Raised>,
    item: std::result::Result<RequestItem, String>,
}

/// Prepares an object. One that may not leave goes without its material where the recipient was `offered` it before: it hears of the State above
/// all.
fn prepare(
    (sender, store): (&Sender, &dyn Store),
    options: &SealOptions<'_>,
    wrapping: Option<&(&Node, Wrapping)>,
    (record, object): (Record, Option<Object>),
    offered: bool,
) -> Result<Prepared> {
    let identifier = record.identifier.clone();
    let raised = record
        .stored_state()
        .filter(|state| record.attributes.state() != Some(*state))
        .map(|state| Raised {
            identifier: identifier.clone(),
            state,
            extra: Extra::NONE,
        });
    let is_destroyed = record.is_destroyed();
    let withheld = reason_withheld(&record, wrapping.is_some());
    let item = match withheld.filter(|_| !offered) {
        Some(why) => Err(why.to_owned()),
        None => match item(
            (sender, store),
            options,
            wrapping,
            (record, object.filter(|_| !offered)),
        ) {
            Ok(item) if size(&item) + AROUND_ITEMS > SEGMENT_LIMIT => {
                Err("the object is too large".to_owned())
            }
            Ok(item) => Ok(item),
            Err(error) if error.kind() == keyferry_s2s::ErrorKind::Encode => Err(error.to_string()),
            Err(error) => return Err(error.into()),
        },
    };
    Ok(Prepared {
        identifier,
        is_destroyed,
        raised,
        item,
    })
}

/// The Import of one object, wrapped for its way when it is to be.
fn item(
    (sender, store): (&Sender, &dyn Store),
    options: &SealOptions<'_>,
    wrapping: Option<&(&Node, Wrapping)>,
    (record, object): (Record, Option<Object>),
) -> keyferry_s2s::Result<RequestItem> {
    let (object, wrapped) = match (object, wrapping) {
        (Some(object), Some((node, wrapping))) => {
            let now = Now {
                wall: options.now,
                ..Now::default()
            };
            let (object, wrapped) =
                node.leaving(store, now, Version::V2_1, wrapping, &record, object)?;
            (Some(object), wrapped)
        }
        (object, _) => (object, false),
    };
    let options = SendOptions { wrapped, ..TERMS };
    request_item(options, record, object, (sender, store))
}

/// A bundle that is being written.
struct Bundle<'o, W: Write> {
    options: &'o SealOptions<'o>,
    output: StreamWriter<W>,
    before: Running,
    report: Sealed,
    /// What the next segment holds so far.
    items: Vec<RequestItem>,
    raised: Vec<Raised>,
    size: usize,
}

impl<'o, W: Write> Bundle<'o, W> {
    /// Begins a bundle with its manifest.
    fn begin(
        options: &'o SealOptions<'o>,
        output: StreamWriter<W>,
        manifest: Manifest,
    ) -> Result<Self> {
        let mut bundle = Bundle {
            options,
            output,
            before: Running::new(),
            report: Sealed {
                manifest: manifest.clone(),
                objects: 0,
                tombstones: 0,
                left: 0,
                named: Vec::new(),
                segments: 0,
                bytes: 0,
                cursor: 0,
            },
            items: Vec::new(),
            raised: Vec::new(),
            size: 0,
        };
        bundle.part(x::SEALED_MANIFEST, &manifest)?;
        if bundle.report.bytes > MANIFEST_LIMIT as u64 {
            return Err(Error::new(
                ErrorKind::Misuse,
                "the selection lists more objects than a manifest has room for",
            ));
        }
        Ok(bundle)
    }

    /// Names an object that stays.
    fn leave(&mut self, identifier: &Text, message: String) {
        self.report.left += 1;
        if self.report.named.len() < NAMED {
            self.report
                .named
                .push(FailedObject::new(identifier.as_str(), None, message));
        }
    }

    /// Adds an object to the next segment, or names it where it stays.
    fn add(&mut self, prepared: Prepared) -> Result<()> {
        let item = match prepared.item {
            Ok(item) => item,
            Err(why) => {
                self.leave(&prepared.identifier, why);
                return Ok(());
            }
        };
        // Attributes may be far longer than a page of the feed takes them to be.
        if self.size + size(&item) + AROUND_ITEMS > SEGMENT_LIMIT {
            self.segment(false)?;
        }
        self.size += size(&item);
        self.items.push(item);
        self.report.objects += 1;
        self.report.tombstones += u64::from(prepared.is_destroyed);
        self.raised.extend(prepared.raised);
        Ok(())
    }

    /// Writes what there is for the next segment, if anything; the closing one always.
    fn segment(&mut self, last: bool) -> Result<()> {
        let items = std::mem::take(&mut self.items);
        self.size = 0;
        if items.is_empty() && !last {
            return Ok(());
        }
        let request = if items.is_empty() {
            None
        } else {
            let mut message = RequestMessage::new(Version::V2_1, items);
            message.header.batch_error_continuation_option =
                Some(BatchErrorContinuationOption::CONTINUE);
            Some(Raw::of(<RequestMessage>::TAG, &message, form()).map_err(encode)?)
        };
        self.report.segments += 1;
        let segment = Segment {
            number: long(self.report.segments),
            before: self.before.so_far().to_vec(),
            last,
            cursor: long(self.report.cursor),
            objects: long(self.report.objects),
            request,
            raised: std::mem::take(&mut self.raised),
            extra: Extra::NONE,
        };
        self.part(x::SEALED_SEGMENT, &segment)
    }

    fn part<T: Encode + Tagged>(&mut self, tag: keyferry_ttlv::Tag, content: &T) -> Result<()> {
        let part = sealed(tag, content, self.options.key)?;
        self.before.update(&part);
        self.report.bytes += part.len() as u64;
        self.output.write_all(&part).map_err(writing)
    }
}

fn size(item: &RequestItem) -> usize {
    let extensions: usize = item
        .message_extensions
        .iter()
        .map(|extension| extension.vendor_extension.bytes().len())
        .sum();
    item.request_payload.bytes().len() + extensions + AROUND_ITEM
}

fn encrypted<W: Write>(readers: &[AgeRecipient], output: W) -> Result<StreamWriter<W>> {
    let readers: Vec<_> = readers.iter().map(AgeRecipient::boxed).collect();
    let encryptor = age::Encryptor::with_recipients(readers.iter().map(|reader| &**reader))
        .map_err(|error| {
            let why = match error {
                age::EncryptError::MissingRecipients => "a bundle needs somebody who can read it",
                age::EncryptError::MixedRecipientAndPassphrase
                | age::EncryptError::IncompatibleRecipients { .. } => {
                    "a passphrase stands alone, without other readers"
                }
                _ => "the bundle can't be encrypted to these readers",
            };
            Error::new(ErrorKind::Misuse, why)
        })?;
    encryptor.wrap_output(output).map_err(writing)
}

fn writing(error: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Io,
        format_args!("the bundle can't be written: {error}"),
    )
}
