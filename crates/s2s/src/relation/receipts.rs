//! The receipts of a copy that is held here: those of its issuer and of the relays that sent it ([rule B](crate::design#rule-b)). They are shown
//! to whoever made them, and passed on with the copy.
//!
//! Those that came with the copy stand in its record. What comes later with the very same copy, on another way, goes into a row of the state, with
//! the others: a record that changes is told to all replicas again.

use crate::relation::keys::{self, Entry};
use crate::wire::copy::Copy;
use crate::wire::follow::HeldCopy;
use crate::wire::receipt::{CopyFacts, Receipt, ReceiptKey};
use keyferry_kmip::{Text, extension as x};
use keyferry_store::record::{bytes_of, read, stored_raw};
use keyferry_store::{
    Home, ObjectId, Overlay, Record, Result, Snapshot, SnapshotExt, Stamp, Store, StoreExt,
};
use keyferry_ttlv::{Decode, Encode, Extra};

/// What makes the receipts of the copies that this server sends.
pub struct Sender {
    server: Text,
    key: ReceiptKey,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// The sender that the store of this home has.
    pub fn of(home: &Home) -> Sender {
        Sender {
            server: home.server.clone(),
            key: ReceiptKey::of(home),
        }
    }

    /// Adds the owner and the receipts to the copy of a record: that of the issuer, and one of this server where it is a relay.
    pub(crate) fn sign(
        &self,
        snapshot: &dyn Snapshot,
        record: &Record,
        copy: &mut Copy,
    ) -> Result<()> {
        if self.issues(record) {
            self.sign_own(record, copy);
            return Ok(());
        }
        let (identifier, fingerprint) = (&record.identifier, record.fingerprint.as_deref());
        let overlay = record.overlay.as_ref();
        copy.owner = overlay.and_then(|overlay| overlay.owner.clone());
        // The issuer's receipt is of the copy as it came here, and not of one that lacks more.
        let is_as_it_came = overlay.map_or(&[][..], |overlay| &overlay.without) == copy.without;
        if is_as_it_came {
            copy.receipt = Receipts::of(snapshot, record, &record.stamp.issuer)?;
        }
        copy.relay_receipt = Some(self.key.receipt(&copy.facts(), identifier, fingerprint));
        Ok(())
    }

    fn issues(&self, record: &Record) -> bool {
        record.stamp.issuer == self.server
    }

    fn sign_own(&self, record: &Record, copy: &mut Copy) {
        copy.owner = record.owner.clone();
        let (identifier, fingerprint) = (&record.identifier, record.fingerprint.as_deref());
        copy.receipt = Some(self.key.receipt(&copy.facts(), identifier, fingerprint));
    }

    /// The same without a snapshot at hand: what others issue is looked up in a view of the store.
    pub(crate) fn sign_from(
        &self,
        store: &dyn Store,
        record: &Record,
        copy: &mut Copy,
    ) -> Result<()> {
        if self.issues(record) {
            self.sign_own(record, copy);
            return Ok(());
        }
        store.view(|snapshot| self.sign(snapshot, record, copy))
    }
}

/// How many servers' receipts of one copy are kept; of the relays' the oldest goes first.
const SERVERS: usize = 8;

/// The receipts of one copy.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::RECEIPTS)]
pub(crate) struct Receipts {
    /// The change that they are of.
    stamp: Stamp,
    given: Vec<GivenReceipt>,
    #[ttlv(extra)]
    extra: Extra,
}

/// A receipt, and who made it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::CLAIM)]
struct GivenReceipt {
    #[ttlv(tag = x::SERVER_ID)]
    server: Text,
    /// Whether that server itself brought it, and no other one.
    #[ttlv(tag = x::DIRECTLY)]
    directly: Option<bool>,
    receipt: Receipt,
    #[ttlv(extra)]
    extra: Extra,
}

/// The receipts that came with a copy.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToldReceipts {
    /// The issuer's, in the copy itself.
    pub(crate) issuer: Option<Receipt>,
    /// The relay's that sent it.
    pub(crate) relay: Option<Receipt>,
}

impl Receipts {
    /// The receipts of the change that is held.
    fn find(snapshot: &dyn Snapshot, record: &Record) -> Result<Option<Receipts>> {
        let of_the_change = |receipts: &Receipts| receipts.stamp == record.stamp;
        if let Some(bytes) = snapshot.state_value(&keys::receipt(&record.id)?)? {
            let later = Some(read(&bytes, "receipts")?).filter(of_the_change);
            if later.is_some() {
                return Ok(later);
            }
        }
        let overlay = record.overlay.as_ref();
        let Some(with_the_copy) = overlay.and_then(|overlay| overlay.receipts.as_ref()) else {
            return Ok(None);
        };
        Ok(Some(read(with_the_copy.bytes(), "receipts")?).filter(of_the_change))
    }

    /// The receipt of this server for the copy that is held.
    pub(crate) fn of(
        snapshot: &dyn Snapshot,
        record: &Record,
        server: &str,
    ) -> Result<Option<Receipt>> {
        let held = Receipts::find(snapshot, record)?;
        Ok(held.and_then(|held| {
            let mut given = held.given.into_iter();
            given
                .find(|given| given.server == *server)
                .map(|given| given.receipt)
        }))
    }

    /// What is said of a copy to a server: its receipt proves that the copy came from there.
    pub(crate) fn claim(snapshot: &dyn Snapshot, server: &str, record: Record) -> Result<HeldCopy> {
        let receipt = Receipts::of(snapshot, &record, server)?;
        Ok(HeldCopy {
            proof: receipt.map(|receipt| receipt.proof),
            id: record.id,
            stamp: record.stamp,
            extra: Extra::NONE,
        })
    }

    /// Whether relays alone have brought the copy that is held, and its issuer never has. A copy without any receipt, as earlier builds keep
    /// them, does not count as one.
    pub(crate) fn is_hearsay(snapshot: &dyn Snapshot, record: &Record) -> Result<bool> {
        let held = Receipts::find(snapshot, record)?;
        Ok(held.is_some_and(|held| {
            let issuer = &record.stamp.issuer;
            let directly =
                |given: &GivenReceipt| given.server == *issuer && given.directly == Some(true);
            !held.given.iter().any(directly)
        }))
    }

    /// Whether receipts came with the change that is held, and none of them is of the copy as it is held.
    pub(crate) fn are_of_another_copy(snapshot: &dyn Snapshot, record: &Record) -> Result<bool> {
        Ok(Receipts::vouch_for(snapshot, record, record)? == Some(false))
    }

    /// Whether one of the receipts that came with the change that is held is of this copy; `None` when none came.
    pub(crate) fn vouch_for(
        snapshot: &dyn Snapshot,
        held: &Record,
        copy: &Record,
    ) -> Result<Option<bool>> {
        let Some(held) = Receipts::find(snapshot, held)?.filter(|held| !held.given.is_empty())
        else {
            return Ok(None);
        };
        let (digest, overlay) = (copy.copy_digest()?, copy.overlay.as_ref());
        let facts = CopyFacts {
            id: &copy.id,
            stamp: &copy.stamp,
            lineage: &copy.lineage,
            digest: &digest,
            owner: overlay.and_then(|overlay| overlay.owner.as_ref()),
            without: overlay.map_or(&[], |overlay| &overlay.without),
        };
        let mut given = held.given.iter();
        Ok(Some(given.any(|given| given.receipt.is_of(&facts))))
    }

    /// The servers whose receipts came with the copy that is held.
    pub(crate) fn servers(snapshot: &dyn Snapshot, record: &Record) -> Result<Vec<Text>> {
        let held = Receipts::find(snapshot, record)?;
        let given = held.into_iter().flat_map(|held| held.given);
        Ok(given.map(|given| given.server).collect())
    }

    /// Puts the receipts that `from` has sent with a copy into its record.
    pub(crate) fn put_into(record: &mut Record, from: &Text, told: ToldReceipts) -> Result<()> {
        let mut all = Receipts::none(&record.stamp);
        all.add_told(from, told);
        if !all.given.is_empty() {
            let overlay = record.overlay.get_or_insert_with(Overlay::default);
            overlay.receipts = Some(stored_raw(&all)?);
        }
        Ok(())
    }

    /// What removes those that came later with the copy that another one replaces.
    pub(crate) fn forget_later(snapshot: &dyn Snapshot, id: &ObjectId) -> Result<Option<Entry>> {
        let key = keys::receipt(id)?;
        Ok(snapshot.state_value(&key)?.map(|_| (key, None)))
    }

    /// Notes the receipts that `from` has sent with the very copy that is held already.
    pub(crate) fn add(
        snapshot: &dyn Snapshot,
        held: &Record,
        from: &Text,
        told: ToldReceipts,
    ) -> Result<Option<Entry>> {
        let known = Receipts::find(snapshot, held)?;
        let mut all = known.clone().unwrap_or_else(|| Receipts::none(&held.stamp));
        all.add_told(from, told);
        if all.given.is_empty() || known.as_ref() == Some(&all) {
            return Ok(None);
        }
        Ok(Some((keys::receipt(&held.id)?, Some(bytes_of(&all)?))))
    }

    fn none(stamp: &Stamp) -> Receipts {
        Receipts {
            stamp: stamp.clone(),
            given: Vec::new(),
            extra: Extra::NONE,
        }
    }

    fn add_told(&mut self, from: &Text, told: ToldReceipts) {
        let issuer = self.stamp.issuer.clone();
        let is_issuer = issuer == *from;
        if let Some(receipt) = told.issuer {
            self.add_one(issuer, is_issuer, receipt);
        }
        if let Some(receipt) = told.relay {
            self.add_one(from.clone(), true, receipt);
        }
    }

    fn add_one(&mut self, server: Text, directly: bool, receipt: Receipt) {
        let known = self.given.iter().position(|given| given.server == server);
        let was_direct = known.is_some_and(|at| {
            self.given
                .get(at)
                .is_some_and(|given| given.directly == Some(true))
        });
        // What an issuer said itself is not replaced by what a relay says that it said.
        if was_direct && !directly {
            return;
        }
        let given = GivenReceipt {
            server,
            directly: directly.then_some(true),
            receipt,
            extra: Extra::NONE,
        };
        match known.and_then(|at| self.given.get_mut(at)) {
            Some(held) => *held = given,
            None => {
                if self.given.len() >= SERVERS {
                    let issuer = &self.stamp.issuer;
                    let oldest = self.given.iter().position(|given| given.server != *issuer);
                    self.given.remove(oldest.unwrap_or(0));
                }
                self.given.push(given);
            }
        }
    }
}

#[cfg(test)]
mod tests;
