//! The server-to-server (s2s) engine of keyferry: sessions that move managed objects between key servers over KMIP, and the responder that
//! receives them.
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
//! // The session first asks what the peer can do. Send the question on any connection, and hand the response to `session.answer`.
//! let Step::Send(question) = session.poll(&mut cx, Ticket(1))? else { panic!("nothing to send") };
//! assert_eq!(question.batch[0].operation, Operation::QUERY);
//! # Ok::<(), keyferry_s2s::Error>(())
//! ```
//!
//! A [`Session`] is a conversation with one peer. It does no input and output itself: [`Driven`] turns it into a conversation that the drivers
//! of `keyferry-net`, or a simulator, carry to the peer. On the receiving side, a [`Node`] answers single batch items. It is a [`Responder`] for
//! Import, Export, Put and Notify, and for the private operations by which keyferry servers follow each other. A vendor's server asks the node
//! first, and answers all other items with its own code.
//!
//! Every object has one *issuer*: the only server that may change it. All other servers hold copies, verbatim, with the *stamp* by which the
//! issuer numbers its changes. The State of an object never goes back.
//!
//! # Transfers
//!
//! - [`Bulk`] pushes objects by Import or Put.
//! - [`Register`] pushes objects to any KMIP server of any version, by Register and the attribute operations.
//! - [`Pull`] fetches objects from another server, by Get or by Export.
//! - [`Explore`] finds out which of these ways a peer supports, in which version, and what would be lost on each.
//!
//! The first three take a [`Selection`] of the objects, and end in a [`Report`]. Each can be a dry run, which writes nothing. A dry run can be
//! saved as a plan; its execution does what was planned, or stops. If a copy's identifier or Name belongs to another object at the receiver,
//! [`Collisions`] says what becomes of the copy: the copy stays verbatim, and an overlay beside it says what clients see.
//!
//! # Replication
//!
//! [`Follow`] keeps a replica up to date. It reads the issuer's *feed*, which lists the objects in the order of their last change. The first
//! load, catching up after an interruption and waiting for the next change are the same loop. Relations are data in the store: an [`Upstream`]
//! at the replica and a [`Downstream`] at the issuer.
//!
//! - An object that can't be applied is asked for again later ([`Retry`]).
//! - A copy whose object leaves the selection is withdrawn.
//! - Two changes that do not descend from each other are a [`Fork`]. Both are kept until a person decides with [`resolve_fork`].
//! - A server that was restored from a backup calls [`begin_restored`]. It then accepts no change before its replicas have given back what they
//!   hold.
//! - With each answer that reaches the head, the replica compares what it holds with what it was told, finds what differs, and asks for that again
//!   ([`Upstream::proved`], [`Upstream::repaired`], [`DifferingCopy`]). A copy that nobody keeps true is listed ([`UnkeptCopy`]).
//! - [`Node::scrub`], called now and then, finds what has rotted in the store ([`RottenRecord`]): its keeper sends it again, a replica
//!   gives it back to its issuer, and index and feed entries are made anew ([`Scrub::mended`]).
//! - Clients see the relations of an object as the attributes Master, Slaves, Backup and Working Server ([`Node::shadow`]).
//!
//! [`Poke`] tells a replica that there are changes to fetch. It uses a connection that the issuer has opened, or one that [`Follow`] has opened
//! and turned round (Set Endpoint Role). [`PokeResponder`] receives it.
//!
//! A foreign server, which runs other software, can be in a relation, too. A [`ForeignMaster`] is observed, by a [`Pull`] that is
//! [`observing`](Pull::observing). A [`ForeignReplica`] is published to, by a [`Publication`], or by a [`Notifier`] if the server accepts Put and
//! Notify.
//!
//! # What it does not do yet
//! - A plan treats each object by itself. A dry run does not see that two planned objects collide with each other; the execution stops there.
//! - A push does not withdraw objects that have left the selection since; a relation does. A relation can't have a selection with the objects
//!   that Links reach.
//! - An object can't change its issuer, since this build can't verify a grant. There are no leases and no slices of usage limits.
//! - A server may be rolled back without being started again, as with a snapshot of a running machine. Its next changes then carry the same stamps
//!   as the changes that were lost. If they differ, they are reported as forks when they meet; if only one side has a change, the later one
//!   counts.
//! - A transport key lets an RSA key wrap material of any length in relations, pushes to keyferry servers and bundles. What goes to a foreign
//!   server under an RSA key, or is pulled or given back under one, has to fit the RSA key itself.
//! - In 1.0 to 1.2, which lack Offset Items, a pull can't tell a complete list from a cut one if more than 31 objects of one type and State were
//!   created in one second. The report says so.
//! - A foreign server is brought up to date by the operations in the answer to its Query, attribute by attribute. Abilities that it does not list
//!   are not tried. Objects that it gets by Put are sent once, and can't be planned.
//! - Changes that others make to an object at a foreign server that is published to are noticed when the object changes here again, not before. A
//!   receiver of Notify is never read. If a server forgets its destroyed objects, such an object can't be told from one that an Import never
//!   reached.
//! - If an object leaves the selection of a foreign relation only because time passes, this is noticed when the object changes.
//! - A pull by Get, or by Export from another product, sees only the attributes that the version can represent: before 2.0 no custom attributes
//!   of vendors other than `x` and `y`, before 1.2 no Links of later types, in 1.0 no Key Format Type of a Digest. It can't be told which objects
//!   have such attributes.

mod ask;
mod clock;
mod compare;
#[doc = include_str!("../docs/design.md")]
pub mod design {}
mod error;
#[cfg(keyferry_planted)]
#[path = "../planted/faults.rs"]
pub mod faults;
mod feed;
mod follow;
mod limits;
mod material;
mod node;
mod outgoing;
mod peer_name;
mod planted;
mod policy;
mod progress;
mod pull;
mod push;
mod receive;
mod refusals;
mod relation;
mod report;
mod respond;
mod rights;
mod selection;
mod session;
mod shadow;
mod size;
#[cfg(test)]
mod testing;
mod transfer;
mod transport_key;
mod wire;

/// The keys of the s2s state: the table of all of them, and those that other crates write.
pub mod keys {
    pub use crate::relation::keys::{
        STATE_KEYS, StateKey, bundle_applied, bundle_number, group_member,
    };
}

pub use ask::{Answered, Ask, EarlierIdentifier, Placeholder, Responder};
pub use clock::Clock;
pub use error::{Error, ErrorKind, Result};
pub use follow::Follow;
pub use follow::options::FollowOptions;
pub use follow::poke::{Poke, PokeResponder};
pub use limits::Limits;
pub use material::serve::RequestedForm;
pub use material::transit::reason_withheld;
pub use material::transport::{TransportKey, renew_transport_key};
pub use material::wrapping_key::{KeyUse, check_usable};
pub use node::{Node, client_attributes, set_default_attributes};
pub use outgoing::feed::{FeedPage, IncludeUnselected};
pub use outgoing::item::{SendOptions, Strategy, request_item};
pub use peer_name::PeerName;
pub use policy::{Collisions, OnIdentifier, OnName, Peer, Policy, Servers, Wrapping};
pub use progress::Progress;
pub use pull::Pull;
pub use pull::options::{PullOptions, PullStrategy};
pub use push::bulk::{Bulk, BulkOptions};
pub use push::explore::{Explore, PeerAbilities, TransferMethod};
pub use push::notifier::{Notifier, NotifierOptions};
pub use push::publication::{Publication, PublicationOptions};
pub use push::register::{Register, RegisterOptions};
pub use receive::apply::{ApplyPage, apply_page, is_internal};
pub use receive::collision::blocks_name;
pub use receive::compromise::settle_emergency_revokes;
pub use receive::fork::{Fork, ForkDecision, ForkVersion, resolve_fork};
pub use receive::give_back::{FailedGiveBack, accept_give_back, begin_restored, waive_give_back};
pub use receive::refused::RefusedCopy;
pub use refusals::{RefusalCounts, Refusals};
pub use relation::account::Account;
pub use relation::alarm::{Alarm, AlarmKind};
pub use relation::compromised_twin::CompromisedTwin;
pub use relation::differing::DifferingCopy;
pub use relation::emergency::EmergencyRevoke;
pub use relation::followed::{Downstream, Upstream, UpstreamOptions};
pub use relation::foreign_master::{ForeignMaster, ForeignMasterOptions};
pub use relation::foreign_replica::{ForeignReplica, ForeignReplicaOptions};
pub use relation::identifier_map::{identifier_at_peer, object_at_peer};
pub use relation::owed::{PendingGiveBack, check_no_pending_give_back};
pub use relation::receipts::Sender;
pub use relation::retry::{Retry, objects_missing_at_issuer};
pub use relation::rotten::{RottenRecord, Scrub};
pub use relation::unkept::{UnkeptCopy, UnkeptReason};
pub use relation::withheld::WithheldObject;
pub use report::{Counts, FailedObject, Loss, ObjectResult, Outcome, PlanDeviation, Report};
pub use respond::RESPONDER_OPERATIONS;
pub use rights::{Rights, Unrestricted};
pub use selection::{ChosenObjects, Selection};
pub use session::{Driven, Session, SessionContext, Step};
pub use shadow::is_shadow;
pub use wire::copy::{Copy, answered_outcome, check_extensions};
pub use wire::follow::{FOLLOW, GIVE_BACK};
pub use wire::place::Place;
pub use wire::receipt::Receipt;
pub use wire::server_information::server_information;
pub use wire::turn::{POKE, replica_position};
