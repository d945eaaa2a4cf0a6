//! The server-to-server engine: sessions that move managed objects to a peer, and the responder that takes them in.
//!
//! ```
//! use keyferry_kmip::{Now, Random, RandomFailed, Ticket, spec::Operation};
//! use keyferry_s2s::{Bulk, BulkOptions, SessionContext, Session, Step, Strategy};
//! use keyferry_store::{Incarnation, Memory};
//!
//! struct NotRandom;
//! impl Random for NotRandom {
//!     fn fill(&mut self, out: &mut [u8]) -> Result<(), RandomFailed> { out.fill(7); Ok(()) }
//! }
//!
//! let store = Memory::new(Incarnation([1; 16]));
//! let mut session = Bulk::new(BulkOptions::new("branch office", Strategy::Import));
//! let mut cx = SessionContext { now: Now::default(), store: &store, random: &mut NotRandom };
//! // It asks first what the peer can do; the answer, by whatever connection, goes to `session.answer`.
//! let Step::Send(question) = session.poll(&mut cx, Ticket(1))? else { panic!("nothing to send") };
//! assert_eq!(question.batch[0].operation, Operation::QUERY);
//! # Ok::<(), keyferry_s2s::Error>(())
//! ```
//!
//! A [`Session`] is sans-IO: [`Driven`] makes it a conversation that the drivers of `keyferry-net`, or a simulator, carry to the peer. The
//! receiving side is [`Node`], a [`Responder`] for single batch items of Import, Export, Put and Notify, and of the operations of our own by which
//! servers follow each other, which a vendor's server asks before its own
//! code. Every object has one issuer; a copy is kept verbatim, with the issuer's stamp, and states never go back.
//!
//! [`Bulk`] pushes by Import or Put, [`Register`] emulates a push in any version, [`Pull`] takes in what another server has, by Get or by
//! Export; [`Explore`] finds out which of these ways a peer knows, in which version, and what is lost on each. Each takes a [`Selection`],
//! can run dry, and ends in a [`Report`]; a dry run can be saved as a plan, whose execution does what was planned or stops. Where a copy's
//! identifier or Name is another object's here, [`Collisions`] says what becomes of it: the copy stays verbatim, and an overlay says what
//! clients see.
//!
//! [`Follow`] keeps a replica up to date: it pulls the feed of its issuer, where the first load, catching up and the next change are one pass.
//! Who follows whom is data in the store ([`Upstream`], [`Downstream`]); what can't be taken is asked for again ([`Retry`]), what leaves the selection is
//! withdrawn, changes that do not descend from each other are kept beside each other until a person [`resolve_fork`]s ([`Fork`]), and a server that was
//! [`begin_restored`] takes back what its replicas hold before it changes anything. Clients see it as the attributes Master, Slaves, Backup and
//! Working Server ([`Node::shadow`]).
//!
//! [`Poke`] tells a replica that there is something to pull, over a connection of the issuer's, or over one that [`Follow`] has opened and turned
//! round (Set Endpoint Role); [`PokeResponder`] hears it.
//!
//! A foreign server is observed for good by a [`ForeignMaster`], the relation that a [`Pull::observing`] runs, and published to by a
//! [`ForeignReplica`], the one of a [`Publication`], or of a [`Notifier`] where it takes Put and Notify.
//!
//! # What it does not do yet
//! - A plan is a promise for single objects: whether two of them collide with each other, a dry run does not see, and the execution stops there.
//! - What was pushed and has left the selection since is not withdrawn; what is followed is. A selection with what Links reach can't be followed.
//! - A new issuer is refused, since grants can't be checked. Leases and slices of usage limits are not given out.
//! - A server that was rolled back without being started again, as a snapshot of a running machine is, makes changes that look like those it had
//!   made before: where they differ they are named as forks once they meet, and where only one side knows of them, the later one counts.
//! - Under an RSA key only what fits it is wrapped in transit, by OAEP.
//! - A pull in 1.0 to 1.2, which lack Offset Items, can't tell a whole answer from a cut one where more than 31 objects of one type and
//!   State came in one second: it says so.
//! - A foreign server is brought up to date by the operations that its Query tells of, attribute by attribute; what it can do beside that is
//!   not tried. What it is Put goes there once, and can't be planned.
//! - What others do to an object at a foreign server that is published to is seen when the object changes here again, not before; a receiver of
//!   Notify is never looked at. A server that forgets what was destroyed can't be told from one that an Import never reached.
//! - An object that leaves a foreign relation's selection by a date alone is not seen to leave it until it changes.
//! - A pull by Get, or by Export from another product, sees of an attribute what its version can say: before 2.0 no custom attribute of
//!   another vendor than `x` and `y`, before 1.2 no Link of a later type, in 1.0 no Key Format Type of a Digest. Nobody can tell of which object.

mod ask;
#[doc = include_str!("../docs/design.md")]
pub mod design {}
mod error;
#[cfg(keyferry_planted)]
#[path = "../planted/faults.rs"]
pub mod faults;
mod feed;
mod follow;
mod material;
mod node;
mod outgoing;
mod planted;
mod policy;
mod progress;
mod pull;
mod push;
mod receive;
mod relation;
mod report;
mod respond;
mod rights;
mod selection;
mod session;
mod shadow;
mod transfer;
mod wire;

/// The keys of the s2s state: the table of all of them, and those that other crates write.
pub mod keys {
    pub use crate::relation::keys::{
        STATE_KEYS, StateKey, bundle_applied, bundle_number, group_member,
    };
}

pub use ask::{Answered, Ask, EarlierIdentifier, Placeholder, Responder};
pub use error::{Error, ErrorKind, Result};
pub use follow::Follow;
pub use follow::options::FollowOptions;
pub use follow::poke::{Poke, PokeResponder};
pub use material::serve::RequestedForm;
pub use material::transit::reason_withheld;
pub use material::wrapping_key::{KeyUse, check_usable};
pub use node::{Node, client_attributes, set_default_attributes};
pub use outgoing::feed::{FeedPage, IncludeUnselected};
pub use outgoing::item::{SendOptions, Strategy, request_item};
pub use policy::{Collisions, OnIdentifier, OnName, Peer, Policy, Wrapping};
pub use progress::Progress;
pub use pull::Pull;
pub use pull::options::{PullOptions, PullStrategy};
pub use push::bulk::{Bulk, BulkOptions};
pub use push::explore::{Explore, PeerAbilities, TransferMethod};
pub use push::notifier::{Notifier, NotifierOptions};
pub use push::publication::{Publication, PublicationOptions};
pub use push::register::{Register, RegisterOptions};
pub use receive::apply::{ApplyPage, apply_page, is_internal};
pub use receive::fork::{Fork, ForkDecision, ForkVersion, resolve_fork};
pub use receive::give_back::{FailedGiveBack, accept_give_back, begin_restored, waive_give_back};
pub use relation::followed::{Downstream, Upstream, UpstreamOptions};
pub use relation::foreign_master::{ForeignMaster, ForeignMasterOptions};
pub use relation::foreign_replica::{ForeignReplica, ForeignReplicaOptions};
pub use relation::identifier_map::{identifier_at_peer, object_at_peer};
pub use relation::offered::OfferedSet;
pub use relation::owed::{PendingGiveBack, check_no_pending_give_back};
pub use relation::retry::{Retry, objects_missing_at_issuer};
pub use report::{Counts, FailedObject, Loss, ObjectResult, Outcome, PlanDeviation, Report};
pub use respond::RESPONDER_OPERATIONS;
pub use rights::{Rights, Unrestricted};
pub use selection::{ChosenObjects, Selection};
pub use session::{Driven, Session, SessionContext, Step};
pub use shadow::is_shadow;
pub use wire::copy::{Copy, answered_outcome, check_extensions};
pub use wire::follow::{FOLLOW, GIVE_BACK};
pub use wire::place::Place;
pub use wire::server_information::server_information;
pub use wire::turn::{POKE, replica_position};
