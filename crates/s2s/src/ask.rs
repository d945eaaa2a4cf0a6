//! What a batch item is answered from ([`Ask`]), who answers it ([`Responder`]), and with what ([`Answered`]).

use crate::rights::{Rights, Unrestricted};
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{
    Cause, Failure, Identity, Now, Payload, Random, RequestItem, ResponseItem, Text, context,
};
use keyferry_store::{Effects, Record, RecordNumber, Snapshot, SnapshotExt};
use keyferry_ttlv::{Context, Version};
use std::fmt;

/// One question to a [`Responder`]: what it may look at while it answers a batch item. Nothing in it can change anything: that is what
/// [`Effects`] are for.
#[non_exhaustive]
pub struct Ask<'a> {
    /// The store as it is, with the effects of the earlier items of the same message.
    pub snapshot: &'a dyn Snapshot,
    /// Who asks: a client by its name. What a peer asks for, a [`Node`](crate::Node) answers as to [`Identity::peer`], which becomes the owner
    /// of what it puts, so that it never is the same as a client of the peer's name.
    pub caller: &'a Identity,
    /// The operation that is asked for.
    pub operation: Operation,
    /// What the caller may do with which object.
    pub rights: &'a dyn Rights,
    /// Whether the caller is a client of this server. What the policy [knows](crate::Policy::knows) as a peer is none, unless its peer is a
    /// client [besides](crate::Peer::also_client).
    pub is_client: bool,
    /// Who the caller is by its TLS certificate, whoever its credentials stand for. A peer is found by that ([`Policy`](crate::Policy)).
    pub tls: &'a Identity,
    /// The time.
    pub now: Now,
    /// The source of randomness.
    pub random: &'a mut dyn Random,
    /// The version of the message, and limits.
    pub cx: Context,
    /// The ID Placeholder; `None` while it is empty.
    pub placeholder: Option<Text>,
    /// The identifiers in the answers to the earlier items of the message, first to last.
    pub earlier: &'a [EarlierIdentifier],
}

/// A Unique Identifier in the answer to an earlier item of the batch. Since 2.0 a later item may refer to it (KMIP 2.1 §4.58).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EarlierIdentifier {
    /// The position of the item in the batch, from 0.
    pub item: usize,
    /// The operation of the item.
    pub operation: Operation,
    /// The identifier.
    pub identifier: Text,
}

impl EarlierIdentifier {
    /// An identifier in the answer to the item at this position.
    pub fn new(item: usize, operation: Operation, identifier: Text) -> EarlierIdentifier {
        EarlierIdentifier {
            item,
            operation,
            identifier,
        }
    }
}

impl<'a> Ask<'a> {
    /// A question about the first item of a KMIP 2.1 message, by somebody who is no client, is called the same in TLS, and may do everything.
    /// The methods below change that.
    pub fn new(
        snapshot: &'a dyn Snapshot,
        caller: &'a Identity,
        operation: Operation,
        now: Now,
        random: &'a mut dyn Random,
    ) -> Ask<'a> {
        Ask {
            snapshot,
            caller,
            operation,
            rights: &Unrestricted,
            is_client: false,
            tls: caller,
            now,
            random,
            cx: context(Version::V2_1),
            placeholder: None,
            earlier: &[],
        }
    }

    /// The same in a message of another version, or with other limits.
    #[must_use]
    pub fn in_context(self, cx: Context) -> Ask<'a> {
        Ask { cx, ..self }
    }

    /// The same by a caller with these rights.
    #[must_use]
    pub fn with_rights(self, rights: &'a dyn Rights) -> Ask<'a> {
        Ask { rights, ..self }
    }

    /// The same by a caller that is a client, or is none.
    #[must_use]
    pub fn by_client(self, is_client: bool) -> Ask<'a> {
        Ask { is_client, ..self }
    }

    /// The same by a caller that has another identity in TLS.
    #[must_use]
    pub fn over_tls(self, tls: &'a Identity) -> Ask<'a> {
        Ask { tls, ..self }
    }

    /// The same about a later item of the message: with the ID Placeholder and the identifiers that the earlier ones have left.
    #[must_use]
    pub fn after(self, placeholder: Option<Text>, earlier: &'a [EarlierIdentifier]) -> Ask<'a> {
        Ask {
            placeholder,
            earlier,
            ..self
        }
    }
}

impl Ask<'_> {
    /// The same question by another caller.
    pub(crate) fn asked_by<'b>(&'b mut self, caller: &'b Identity) -> Ask<'b> {
        Ask {
            snapshot: self.snapshot,
            caller,
            operation: self.operation,
            rights: self.rights,
            is_client: self.is_client,
            tls: self.tls,
            now: self.now,
            random: &mut *self.random,
            cx: self.cx,
            placeholder: self.placeholder.clone(),
            earlier: self.earlier,
        }
    }
}

impl fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("caller", self.caller)
            .field("operation", &self.operation)
            .field("is_client", &self.is_client)
            .field("tls", self.tls)
            .field("now", &self.now)
            .field("version", &self.cx.version)
            .field("placeholder", &self.placeholder)
            .field("earlier", &self.earlier)
            .finish_non_exhaustive()
    }
}

impl Ask<'_> {
    /// The identifier that a request means: its own, or the ID Placeholder.
    ///
    /// # Errors
    /// [`Cause::InvalidField`] when there is neither, or no such item before it.
    pub fn identifier(
        &self,
        given: Option<&keyferry_kmip::UniqueIdentifier>,
    ) -> Result<Text, Failure> {
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

    /// The record of the object that a request means, if the caller may do the operation with it.
    ///
    /// # Errors
    /// [`Cause::ObjectNotFound`], [`Cause::PermissionDenied`], or that the store failed.
    pub fn record(
        &self,
        given: Option<&keyferry_kmip::UniqueIdentifier>,
    ) -> Result<(RecordNumber, Record), Failure> {
        let identifier = self.identifier(given)?;
        self.object(&identifier)
    }

    /// The record of the object with this Unique Identifier, if the caller may do the operation with it.
    ///
    /// # Errors
    /// As [`record`](Ask::record).
    pub fn object(&self, identifier: &str) -> Result<(RecordNumber, Record), Failure> {
        let found = self.snapshot.by_identifier(identifier)?;
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

/// The answer to a batch item, and what it changes in the store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The response item. It is true only if the effects are applied.
    pub response: ResponseItem,
    /// The changes of the store.
    pub effects: Effects,
    /// What becomes of the ID Placeholder (KMIP 2.1 §6).
    pub placeholder: Placeholder,
}

/// What an operation does to the ID Placeholder of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// It stays as it is.
    Keep,
    /// It holds this identifier from now on.
    Set(Text),
    /// It is empty from now on.
    Clear,
}

impl Answered {
    /// An answer without effects.
    ///
    /// # Errors
    /// When the message's version can't carry the payload.
    pub fn answer<P: Payload>(payload: &P, cx: Context) -> Result<Answered, Failure> {
        Ok(Answered {
            response: ResponseItem::success(payload, cx)?,
            effects: Effects::none(),
            placeholder: Placeholder::Keep,
        })
    }

    /// The same answer with these effects, too.
    #[must_use]
    pub fn with(mut self, effects: Effects) -> Answered {
        self.effects.extend(effects);
        self
    }

    /// The same answer, which sets the ID Placeholder.
    #[must_use]
    pub fn with_placeholder(mut self, identifier: Text) -> Answered {
        self.placeholder = Placeholder::Set(identifier);
        self
    }
}

/// What answers single batch items. A vendor's server asks the s2s responder first, and answers the items itself that it gets back.
///
/// # Contract
/// An answer depends on `ask` and `item` alone. A failed item has no effects.
pub trait Responder: Send + Sync {
    /// The answer; `None` if this responder does not answer the operation.
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>>;
}

/// Whether a peer names the current reign of this server.
pub(crate) fn is_of_this_reign(ask: &Ask<'_>, reign: Option<&[u8]>) -> Result<bool, Failure> {
    Ok(reign == Some(&ask.snapshot.reign()?.0[..]))
}
