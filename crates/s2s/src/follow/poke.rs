//! Poking: an issuer tells a replica that its feed has a new head, over a connection that either side has opened; what has changed the replica
//! asks for itself ([rule 11](crate::design#rule-11)).

use crate::ask::{Answered, Ask, Responder};
use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::planted::planted;
use crate::relation::followed::{Downstream, Upstream};
use crate::session::{Session, SessionContext, Step};
use crate::wire::follow::check_version;
use crate::wire::place::Place;
use crate::wire::turn::{POKE, PokeRequest, PokeResponse, message, turn};
use keyferry_kmip::{
    Failure, Lost, RequestItem, ResponseMessage, Text, Tick, Ticket, accepts_turn,
};
use keyferry_store::StoreExt;
use keyferry_ttlv::Extra;
use std::sync::Arc;

/// What is called with the issuer's server id and the head of its feed.
type Heard = dyn Fn(&str, &Place) + Send + Sync;

/// Hears the pokes of the servers that this one follows. It changes nothing in the store, and its answer says nothing.
pub struct PokeResponder {
    node: Arc<Node>,
    heard: Box<Heard>,
}

impl PokeResponder {
    /// Calls `heard` with the issuer's server id and the head of its feed when there is something that was not taken yet; a head that was
    /// reached already is a heartbeat. It is called while a transaction is open: it sets a flag and wakes whoever follows
    /// ([`Follow::poked`](crate::Follow::poked)), and neither blocks nor asks the store.
    pub fn new(node: Arc<Node>, heard: impl Fn(&str, &Place) + Send + Sync + 'static) -> Self {
        PokeResponder {
            node,
            heard: Box::new(heard),
        }
    }

    fn poke(&self, ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
        let denied =
            || Failure::denied("only a server that is followed may poke, and for itself alone");
        check_version(ask.cx.version)?;
        let peer = self.node.policy.peer(ask.tls).ok_or_else(denied)?;
        let request: PokeRequest = item.payload(ask.cx)?;
        if request.server != peer.server {
            return Err(denied());
        }
        let followed = Upstream::all(ask.snapshot)?;
        let mut relations = followed
            .iter()
            .filter(|master| master.server == peer.server)
            .peekable();
        if relations.peek().is_none() {
            return Err(denied());
        }
        let news = relations
            .any(|master| !(master.is_up_to_date() && master.cursor.is_same(&request.head)));
        if news && !planted!(PokeUnheard) {
            (self.heard)(&request.server, &request.head);
        }
        Answered::answer(&PokeResponse { extra: Extra::NONE }, ask.cx)
    }
}

impl Responder for PokeResponder {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        (item.operation == POKE).then(|| {
            crate::wire::copy::check_extensions(&item.message_extensions)
                .and_then(|()| self.poke(ask, item))
        })
    }
}

/// Pokes one replica whenever the head of the feed has moved: the issuer's side, over a connection that it has opened, or that the replica
/// has turned round. It reads nothing but the head and whether the replica follows, and learns nothing from the answers.
///
/// Whoever drives it wakes it when the head may have moved (`Driven::woken_by`); however often it was woken meanwhile, there is one
/// poke under way at most, and the next one tells the head of its own moment. It is done when the replica does not follow any more,
/// or the relation is paused.
#[derive(Debug)]
pub struct Poke {
    server: Text,
    replica: Text,
    /// What the replica has, as far as is known.
    known: Place,
    every: Option<u64>,
    turns_back: bool,
    next: Option<Tick>,
    flight: Option<(Ticket, Flight)>,
    /// Whether the connection is to be turned back.
    turns: bool,
}

#[derive(Debug)]
enum Flight {
    Poke(Place),
    Turn,
}

impl Poke {
    /// Pokes the replica of this server id. `known` is what it has taken already, as the message says by which it turned the connection round
    /// ([`replica_position`](crate::replica_position)); with the default it is poked at once.
    pub fn new(node: &Node, replica: impl Into<Text>, known: Place) -> Self {
        Poke {
            server: node.home.server.clone(),
            replica: replica.into(),
            known,
            every: None,
            turns_back: false,
            next: None,
            flight: None,
            turns: false,
        }
    }

    /// A heartbeat: pokes also when so many milliseconds have passed since the last poke.
    #[must_use]
    pub fn every(mut self, milliseconds: u64) -> Self {
        self.every = Some(milliseconds);
        self
    }

    /// Turns the connection back when the replica was told something new, so that it can ask for it there: for a connection that
    /// the replica has turned round.
    #[must_use]
    pub fn turning_back(mut self) -> Self {
        self.turns_back = true;
        self
    }
}

impl Session for Poke {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        if self.flight.is_some() {
            return Ok(Step::Wait(None));
        }
        if std::mem::take(&mut self.turns) {
            self.flight = Some((ticket, Flight::Turn));
            return turn(None);
        }
        let (head, follows) = cx.store.view::<_, Error>(|snapshot| {
            let follows = Downstream::of(snapshot, &self.replica)?
                .iter()
                .any(|slave| slave.paused != Some(true) && slave.ended != Some(true));
            Ok((Place::from(snapshot.head()?), follows))
        })?;
        if !follows {
            return Ok(Step::Done(Box::default()));
        }
        let due = self.next.is_some_and(|next| next <= cx.now.tick);
        let beats = !self.known.is_same(&head) || due;
        if beats || self.next.is_none() {
            self.next = self
                .every
                .map(|every| Tick(cx.now.tick.0.saturating_add(every)));
        }
        if !beats {
            return Ok(Step::Wait(self.next));
        }
        let request = PokeRequest {
            server: self.server.clone(),
            head: head.clone(),
            extra: Extra::NONE,
        };
        self.flight = Some((ticket, Flight::Poke(head)));
        message(&request).map(|message| Step::Send(Box::new(message)))
    }

    fn answer(
        &mut self,
        _: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let Some((_, flight)) = self.flight.take_if(|(under_way, _)| *under_way == ticket) else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer came to nothing that was asked",
            ));
        };
        let Ok(response) = response else {
            // What it was told last may not have reached it.
            self.known = match flight {
                Flight::Poke(head) if planted!(LostPokeCounts) => head,
                _ => Place::default(),
            };
            (self.next, self.turns) = (None, false);
            return Ok(());
        };
        let refused = |what: &str| {
            let why = response
                .batch
                .first()
                .and_then(|item| item.result_message.as_deref())
                .unwrap_or_default();
            Err(Error::new(
                ErrorKind::Peer,
                format_args!("the replica does not {what}: {why}"),
            ))
        };
        match flight {
            Flight::Poke(_) if !response.batch.first().is_some_and(|item| item.is_success()) => {
                refused("let itself be poked")
            }
            Flight::Poke(head) => {
                self.turns =
                    self.turns_back && !self.known.is_same(&head) && !planted!(NotTurnedBack);
                self.known = head;
                Ok(())
            }
            Flight::Turn if !accepts_turn(&response) => {
                refused("let the connection be turned back")
            }
            Flight::Turn => Ok(()),
        }
    }
}
