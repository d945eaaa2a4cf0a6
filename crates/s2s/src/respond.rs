use crate::{Node, Rights, arrival, copy, format, notify};
use keyferry_kmip::spec::{KeyCompressionType, KeyFormatType, KeyWrapType, Operation};
use keyferry_kmip::{
    Cause, ExportRequest, ExportResponse, Failure, Identity, KeyWrappingSpecification, Now, Object,
    Payload, Random, RequestItem, ResponseItem, Text, UniqueIdentifier,
};
use keyferry_store::{Effects, Error, Record, RecordNumber, Snapshot, SnapshotExt};
use keyferry_ttlv::{Context, Extra};

/// What a batch item is answered from. Nothing in it can change anything: that is what [`Effects`] are for.
pub struct Ask<'a> {
    /// The store as it is, earlier items of the same message included.
    pub snapshot: &'a dyn Snapshot,
    /// Who asks.
    pub caller: &'a Identity,
    /// The operation that is asked for.
    pub operation: Operation,
    /// What the caller may do with which object.
    pub rights: &'a dyn Rights,
    /// Whether it is a client of this server.
    pub is_client: bool,
    /// Who its TLS certificate says it is, whoever its credentials stand for: a peer is found by that ([`Node::policy`]).
    pub tls: &'a Identity,
    /// When.
    pub now: Now,
    /// Randomness.
    pub random: &'a mut dyn Random,
    /// The message's version, and limits.
    pub cx: Context,
    /// The ID Placeholder.
    pub placeholder: Option<Text>,
    /// The identifiers in the answers to the items before it, first to last.
    pub earlier: &'a [Earlier],
}

/// A Unique Identifier in the answer to an earlier item of the batch, which a later one may refer to since 2.0 (KMIP 2.1 §4.58).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Which item.
    pub item: usize,
    /// Its operation.
    pub operation: Operation,
    /// The identifier.
    pub identifier: Text,
}

impl Ask<'_> {
    /// The identifier that a request means: its own, or the ID Placeholder.
    ///
    /// # Errors
    /// When there is neither.
    pub fn meant(&self, given: Option<&keyferry_kmip::UniqueIdentifier>) -> Result<Text, Failure> {
        use keyferry_kmip::UniqueIdentifier as U;
        use keyferry_kmip::spec::UniqueIdentifierEnumeration as E;
        match given {
            Some(U::Text(text)) => Ok(text.clone()),
            None | Some(U::Enumeration(E::ID_PLACEHOLDER)) => {
                self.placeholder.clone().ok_or_else(|| {
                    Failure::new(
                        Cause::InvalidField,
                        "no Unique Identifier was given and the ID Placeholder is empty",
                    )
                })
            }
            // The n-th of the response from 0, or counted back from this item (KMIP 2.1 §4.58).
            Some(U::Integer(n)) => {
                let place = usize::try_from(*n).ok().or_else(|| {
                    let back = usize::try_from(n.unsigned_abs()).ok()?;
                    self.earlier.len().checked_sub(back)
                });
                let named = place
                    .and_then(|place| self.earlier.get(place))
                    .map(|earlier| earlier.identifier.clone());
                named.ok_or_else(|| {
                    Failure::new(
                        Cause::InvalidField,
                        format_args!(
                            "there is no Unique Identifier at the place {n} of the response"
                        ),
                    )
                })
            }
            Some(U::Enumeration(of)) => self.most_recent(*of),
        }
    }

    /// The identifier in the answer of the last operation of a kind in the batch (KMIP 2.1 §11.58).
    fn most_recent(
        &self,
        of: keyferry_kmip::spec::UniqueIdentifierEnumeration,
    ) -> Result<Text, Failure> {
        use keyferry_kmip::spec::UniqueIdentifierEnumeration as E;
        // Of a key pair the private key comes first.
        let (operation, place) = match of {
            E::CREATE => (Operation::CREATE, None),
            E::CREATE_KEY_PAIR_PRIVATE_KEY => (Operation::CREATE_KEY_PAIR, Some(0)),
            E::CREATE_KEY_PAIR_PUBLIC_KEY => (Operation::CREATE_KEY_PAIR, Some(1)),
            E::CREATE_KEY_PAIR => (Operation::CREATE_KEY_PAIR, None),
            E::IMPORT => (Operation::IMPORT, None),
            E::LOCATE => (Operation::LOCATE, None),
            E::REGISTER => (Operation::REGISTER, None),
            E::RE_KEY => (Operation::RE_KEY, None),
            E::RE_KEY_KEY_PAIR_PRIVATE_KEY => (Operation::RE_KEY_KEY_PAIR, Some(0)),
            E::RE_KEY_KEY_PAIR_PUBLIC_KEY => (Operation::RE_KEY_KEY_PAIR, Some(1)),
            E::RE_KEY_KEY_PAIR => (Operation::RE_KEY_KEY_PAIR, None),
            E::CERTIFY => (Operation::CERTIFY, None),
            E::CREATE_SPLIT_KEY => (Operation::CREATE_SPLIT_KEY, None),
            E::DERIVE_KEY => (Operation::DERIVE_KEY, None),
            E::JOIN_SPLIT_KEY => (Operation::JOIN_SPLIT_KEY, None),
            E::RE_CERTIFY => (Operation::RE_CERTIFY, None),
            other => {
                return Err(Failure::new(
                    Cause::InvalidField,
                    format_args!("the Unique Identifier {other} is unknown"),
                ));
            }
        };
        let Some(last) = self
            .earlier
            .iter()
            .rev()
            .find(|earlier| earlier.operation == operation)
        else {
            return Err(Failure::new(
                Cause::InvalidField,
                format_args!("no {operation} before it in the batch named an object"),
            ));
        };
        let mut named = self
            .earlier
            .iter()
            .filter(|earlier| earlier.item == last.item);
        let found = match place {
            Some(place) => named.nth(place),
            None => named.next().filter(|_| named.next().is_none()),
        };
        found
            .map(|earlier| earlier.identifier.clone())
            .ok_or_else(|| {
                Failure::new(
                    Cause::FeatureNotSupported,
                    format_args!("the {operation} before it named several objects: say which one"),
                )
            })
    }

    /// The record that a request means.
    ///
    /// # Errors
    /// [`Cause::ObjectNotFound`], [`Cause::PermissionDenied`], or that the store failed.
    pub fn record(
        &self,
        given: Option<&keyferry_kmip::UniqueIdentifier>,
    ) -> Result<(RecordNumber, Record), Failure> {
        let identifier = self.meant(given)?;
        self.object(&identifier)
    }

    /// The record of this Unique Identifier.
    ///
    /// # Errors
    /// As [`record`](Ask::record).
    pub fn object(&self, identifier: &str) -> Result<(RecordNumber, Record), Failure> {
        let found = self
            .snapshot
            .by_identifier(identifier)
            .map_err(store_failed)?;
        let found = found.ok_or_else(|| {
            Failure::new(
                Cause::ObjectNotFound,
                format_args!("there is no object {identifier:?}"),
            )
        })?;
        self.rights.check(self.caller, self.operation, &found.1)?;
        Ok(found)
    }
}

/// The failure that a client is told when the store fails: nothing about the store. The application's log has the rest.
pub fn store_failed(error: Error) -> Failure {
    Failure::new(
        Cause::Internal,
        format_args!("the server's store failed ({:?})", error.kind()),
    )
}

/// What a batch item is answered with, and what it would do.
#[derive(Debug)]
pub struct Outcome {
    /// The answer, if the effects are applied.
    pub response: ResponseItem,
    /// The effects.
    pub effects: Effects,
    /// What becomes of the ID Placeholder.
    pub placeholder: Placeholder,
}

/// What an operation does to the ID Placeholder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// Nothing.
    Keep,
    /// It holds this from now on.
    Set(Text),
    /// It is empty from now on.
    Clear,
}

impl Outcome {
    /// An answer without effects.
    ///
    /// # Errors
    /// When the version can't say it.
    pub fn answer<P: Payload>(payload: &P, cx: Context) -> Result<Outcome, Failure> {
        Ok(Outcome {
            response: ResponseItem::success(payload, cx)?,
            effects: Effects::none(),
            placeholder: Placeholder::Keep,
        })
    }

    /// The same with effects.
    #[must_use]
    pub fn with(mut self, effects: Effects) -> Outcome {
        self.effects.extend(effects);
        self
    }

    /// The same, setting the ID Placeholder.
    #[must_use]
    pub fn placing(mut self, identifier: Text) -> Outcome {
        self.placeholder = Placeholder::Set(identifier);
        self
    }
}

/// Answers single batch items. A vendor asks the s2s responder first and keeps the items that are not its own.
///
/// # Contract
/// An answer depends on `ask` and `item` alone. A failed item has no effects.
pub trait Responder: Send + Sync {
    /// The answer; `None` when the item is not this responder's.
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Outcome, Failure>>;
}

/// The s2s responder: Import, Export, Put and Notify, and the operations by which keyferry servers follow each other.
impl Responder for Node {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Outcome, Failure>> {
        let answer = match item.operation {
            Operation::IMPORT => arrival::import,
            Operation::PUT => arrival::put,
            Operation::NOTIFY => notify::notify,
            Operation::EXPORT => export,
            crate::FOLLOW => crate::follow::feed::follow,
            crate::GIVE_BACK => crate::take_back::give_back,
            _ => return None,
        };
        Some(
            copy::check_extensions(&item.message_extensions).and_then(|()| answer(self, ask, item)),
        )
    }
}

/// The operations that the s2s responder answers.
pub const OPERATIONS: &[Operation] = &[
    Operation::IMPORT,
    Operation::EXPORT,
    Operation::PUT,
    Operation::NOTIFY,
];

fn export(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: ExportRequest = item.payload(ask.cx)?;
    let (number, record) = ask.record(request.unique_identifier.as_ref())?;
    let wanted = Wanted {
        key_format_type: request.key_format_type,
        key_wrap_type: request.key_wrap_type,
        key_compression_type: request.key_compression_type,
        key_wrapping_specification: request.key_wrapping_specification.as_ref(),
    };
    // A peer that pulls gets the copy verbatim, with what the message itself can't say.
    let puller = node.policy.peer(ask.tls).filter(|peer| peer.may_pull);
    if let Some(peer) = puller
        && !peer.has_agreed(&record, ask.now.wall)?
    {
        return Err(Failure::denied(
            "the agreement with this peer does not cover the object",
        ));
    }
    let object = node.served(ask, number, &record, &wanted)?;
    let (attributes, addition) = if puller.is_some() {
        let (attributes, rest) =
            keyferry_kmip::projection::split_by_version(&record.attributes, ask.cx.version);
        let copy = copy::Copy::of(&record, rest, None).map_err(store_failed)?;
        let addition = copy::Addition {
            copy: Some(copy),
            ..copy::Addition::default()
        };
        (attributes, Some(addition.extension(false)?))
    } else {
        (
            keyferry_kmip::projection::visible_in_version(
                &crate::shown(&record, ask.now.wall),
                ask.cx.version,
            ),
            None,
        )
    };
    let response = ExportResponse {
        object_type: record.object_type,
        unique_identifier: record.identifier.clone().into(),
        attributes,
        object,
        extra: Extra::NONE,
    };
    let mut outcome = Outcome::answer(&response, ask.cx)?.placing(record.identifier);
    outcome.response.message_extension = addition;
    Ok(outcome)
}

/// How a Get or Export wants the object (KMIP 2.1 §6.1.18 and §6.1.19).
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// In which format.
    pub key_format_type: Option<KeyFormatType>,
    /// Whether as it was registered, or in the clear.
    pub key_wrap_type: Option<KeyWrapType>,
    /// How an elliptic curve point is compressed.
    pub key_compression_type: Option<KeyCompressionType>,
    /// How to wrap it.
    pub key_wrapping_specification: Option<&'a KeyWrappingSpecification>,
}

impl Node {
    /// The object itself as it is wanted, if it may leave: a destroyed one has none, one that is not Extractable stays, a Sensitive one leaves
    /// wrapped or not at all.
    ///
    /// # Errors
    /// [`Cause::Sensitive`], [`Cause::NotExtractable`], and what stands against the format or the wrapping.
    pub fn served(
        &self,
        ask: &Ask<'_>,
        number: RecordNumber,
        record: &Record,
        wanted: &Wanted<'_>,
    ) -> Result<Option<Object>, Failure> {
        use keyferry_kmip::spec::{AttributeValue as V, tag};
        if record.is_destroyed() {
            return Ok(None);
        }
        if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
            return Err(Failure::new(
                Cause::ObjectArchived,
                "the object is archived",
            ));
        }
        if matches!(
            record.attributes.get(tag::EXTRACTABLE),
            Some(V::Extractable(false))
        ) {
            return Err(Failure::new(
                Cause::NotExtractable,
                "the object is not Extractable",
            ));
        }
        let Some(object) = ask
            .snapshot
            .whole(number)
            .map_err(store_failed)?
            .and_then(|(_, object)| object)
        else {
            return Ok(None);
        };
        let object = here(ask, record, object)?;
        let is_wrapped = object
            .key_block()
            .is_some_and(|block| block.key_wrapping_data.is_some());
        let unwraps = is_wrapped && wanted.key_wrap_type == Some(KeyWrapType::NOT_WRAPPED);
        let leaves_wrapped = wanted.key_wrapping_specification.is_some() || is_wrapped && !unwraps;
        if !leaves_wrapped
            && matches!(
                record.attributes.get(tag::SENSITIVE),
                Some(V::Sensitive(true))
            )
        {
            return Err(Failure::new(
                Cause::Sensitive,
                "the object is Sensitive: it leaves wrapped or not at all",
            ));
        }
        let object = match unwraps {
            true => match self.unwrapped(ask, object)? {
                // What a Sensitive key protects is as Sensitive as it is.
                (_, true) if wanted.key_wrapping_specification.is_none() => {
                    return Err(Failure::new(
                        Cause::Sensitive,
                        "the wrapping key is Sensitive: the object leaves wrapped or not at all",
                    ));
                }
                (object, _) => object,
            },
            false => object,
        };
        if let (Some(wanted), Some(block)) = (wanted.key_compression_type, object.key_block())
            && block
                .key_compression_type
                .unwrap_or(KeyCompressionType::EC_PUBLIC_KEY_TYPE_UNCOMPRESSED)
                != wanted
        {
            let why = format_args!("the key is not given as {wanted}");
            return Err(Failure::new(Cause::KeyCompressionNotSupported, why));
        }
        let object = format::in_format(object, wanted.key_format_type, ask.cx.version)?;
        match wanted.key_wrapping_specification {
            Some(specification) => self.wrapped(ask, object, record, specification).map(Some),
            None => Ok(Some(object)),
        }
    }
}

/// A copy as it is served here: the key that it is wrapped under has its identifier here.
fn here(ask: &Ask<'_>, record: &Record, mut object: Object) -> Result<Object, Failure> {
    let data = crate::wrap::key_block(&mut object)
        .and_then(|block| block.key_wrapping_data.as_deref_mut());
    for information in data.into_iter().flat_map(|data| {
        let mac = data
            .mac_signature_key_information
            .as_mut()
            .map(|mac| &mut mac.unique_identifier);
        data.encryption_key_information
            .as_mut()
            .map(|key| &mut key.unique_identifier)
            .into_iter()
            .chain(mac)
    }) {
        if let UniqueIdentifier::Text(identifier) = information
            && let Some(here) = crate::collision::wrapping_key_here(ask, record, identifier)?
        {
            *identifier = here;
        }
    }
    Ok(object)
}
