//! What another version lacks, of the types of the model that the derive does not know (KMIP 1.0 to 2.1).

use crate::credential::Password;
use crate::identifier::UniqueIdentifier;
use crate::message::AsynchronousMode;
use crate::message::request::RequestMessage;
use crate::message::response::ResponseMessage;
use crate::object::{BigInteger, KeyMaterial, KeyValue};
use crate::payload::cryptographic::Data;
use crate::payload::data::{ExtensionType, TicketLifetime};
use crate::payload::exchange::DeletedAttributes;
use crate::secret::Secret;
use crate::spec::enumeration::message::{AsynchronousIndicator, Operation};
use crate::spec::tag;
use crate::spec::versions::is_tagged;
use crate::transparent::SecretInteger;
use keyferry_ttlv::{Downgrade, Encode, Loss, Version};

impl DeletedAttributes {
    pub(crate) fn downgrade_all(&mut self, version: Version, loss: &mut Loss) {
        let crosses = loss
            .from()
            .is_some_and(|from| is_tagged(from) != is_tagged(version));
        self.0.retain_mut(|deleted| {
            // One instance of several can't be told in 2.x, nor in 1.x all of them.
            let one = !deleted.reference.may_repeat() && deleted.index.unwrap_or(0) == 0;
            let sayable = if crosses {
                one
            } else {
                !is_tagged(version) || deleted.index.is_none()
            };
            let kept = deleted.reference.exists(version) && sayable;
            if kept && is_tagged(version) {
                deleted.index = None;
            } else if !kept {
                deleted.reference.record_lost(loss);
            }
            kept
        });
    }
}

/// Prohibited is false, Optional true; a Mandatory one has no form in 1.x (KMIP 2.1 §9.2, 1.4 §6.7).
impl Downgrade for AsynchronousMode {
    fn downgrade(&mut self, version: Version, _: &mut Loss) -> bool {
        use AsynchronousIndicator as I;
        use AsynchronousMode as M;
        *self = match *self {
            M::Boolean(wanted) if is_tagged(version) => {
                M::Indicator(if wanted { I::OPTIONAL } else { I::PROHIBITED })
            }
            M::Indicator(I::OPTIONAL) if !is_tagged(version) => M::Boolean(true),
            M::Indicator(I::PROHIBITED) if !is_tagged(version) => M::Boolean(false),
            M::Indicator(_) if !is_tagged(version) => return false,
            same => same,
        };
        true
    }
}

/// It is vital: without its identifier an operation would be on the object of the operation before.
impl Downgrade for UniqueIdentifier {
    const VITAL: bool = true;

    fn downgrade(&mut self, version: Version, _: &mut Loss) -> bool {
        is_tagged(version) || matches!(self, UniqueIdentifier::Text(_))
    }
}

impl Downgrade for Data {
    const VITAL: bool = true;

    fn downgrade(&mut self, version: Version, _: &mut Loss) -> bool {
        is_tagged(version) || matches!(self, Data::Bytes(_))
    }
}

impl Downgrade for KeyValue {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        match self {
            KeyValue::Plain(plain) => plain.downgrade(version, loss),
            KeyValue::Wrapped(_) => true,
        }
    }
}

macro_rules! everywhere {
    ($($ty:ty),*) => {$(
        /// Every version has it.
        impl Downgrade for $ty {
            fn downgrade(&mut self, _: Version, _: &mut Loss) -> bool {
                true
            }
        }
    )*};
}

everywhere!(
    BigInteger,
    ExtensionType,
    KeyMaterial,
    Password,
    Secret,
    SecretInteger,
    TicketLifetime
);

/// Leaves behind the batch items that `version` lacks; false when that was vital.
macro_rules! leave_items {
    ($message:ident, $version:ident, $loss:ident) => {{
        let before = $message.batch.len();
        // Without its operation a payload would be taken for anything.
        $message.batch.retain(|item| {
            let operation: Option<Operation> = item.operation.into();
            let lacks =
                operation.is_some_and(|operation| !Operation::DOMAIN.has(operation.0, $version));
            if lacks {
                $loss.record(tag::BATCH_ITEM, item);
            }
            !lacks
        });
        let all = $loss.repeated(&mut $message.batch, tag::BATCH_ITEM, true, false, $version);
        if $message.batch.len() != before {
            $message.header.batch_count = i32::try_from($message.batch.len()).unwrap_or(i32::MAX);
        }
        all
    }};
}

/// The request in the other version; none of it when an item can't be said, since the ones behind it may build on what it does.
impl<P: Downgrade + Encode> Downgrade for RequestMessage<P> {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        let before = self.batch.len();
        if let Ok(from) = self.version() {
            loss.set_from(from);
        }
        // Whether the order counts is assumed otherwise in 2.x (KMIP 2.1 §9.8: True) than in 1.x (1.4 §6.12: False), so it is said.
        let ordered = self.version().is_ok_and(is_tagged);
        if before > 1 && ordered != is_tagged(version) {
            self.header.batch_order_option.get_or_insert(ordered);
        }
        self.header.protocol_version = version.into();
        let kept = loss.required(&mut self.header, tag::REQUEST_HEADER, version);
        let all = leave_items!(self, version, loss);
        kept && all && self.batch.len() == before
    }
}

/// The response in the other version, less the items whose operations that version lacks.
impl<P: Downgrade + Encode> Downgrade for ResponseMessage<P> {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        let before = self.batch.len();
        if let Ok(from) = self.version() {
            loss.set_from(from);
        }
        self.header.protocol_version = version.into();
        let kept = loss.required(&mut self.header, tag::RESPONSE_HEADER, version);
        let all = leave_items!(self, version, loss);
        kept && all && (before == 0 || !self.batch.is_empty())
    }
}
