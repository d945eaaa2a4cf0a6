//! What a following session makes of the issuer's answers.

use crate::error::{Error, ErrorKind, Result};
use crate::follow::give_back::GiveBackPass;
use crate::follow::{Asked, Follow, InFlight, Reached, put_upstream};
use crate::planted::planted;
use crate::relation::followed::Upstream;
use crate::session::SessionContext;
use crate::wire::follow::{Answer, FollowResponse, GiveBackResponse, SPOKEN};
use crate::wire::place::Place;
use keyferry_kmip::{Lost, ResponseItem, ResponseMessage, Ticket, accepts_turn, context};
use keyferry_store::StoreExt;

impl Follow {
    /// Takes what came for a request, or that nothing will come any more.
    pub(super) fn take_response(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let Ok(response) = response else {
            self.forget_connection();
            return Ok(());
        };
        let (_, request) = self
            .in_flight
            .pop_front_if(|(under_way, _)| *under_way == ticket)
            .ok_or_else(|| protocol("an answer came to nothing that was asked"))?;
        match request {
            InFlight::Turn => {
                self.turned = accepts_turn(&response);
                self.options.turns = self.turned;
                Ok(())
            }
            InFlight::Changes(asked) => {
                let answer: FollowResponse = successful_item(&response)?
                    .payload(context(SPOKEN))
                    .map_err(Error::protocol)?;
                // Asked before it was known that the server wants something back, or has another feed.
                if self.giving_back.is_some() || self.void_answers > 0 {
                    self.void_answers = self.void_answers.saturating_sub(1);
                    return Ok(());
                }
                self.take_answer(cx, answer, &asked)
            }
            InFlight::GiveBack { last, mends } => {
                let _: GiveBackResponse = successful_item(&response)?
                    .payload(context(SPOKEN))
                    .map_err(Error::protocol)?;
                if last {
                    self.giving_back = None;
                }
                match last && !mends {
                    true => self.start_over(cx, Place::default()),
                    false => Ok(()),
                }
            }
        }
    }

    /// Forgets what belonged to a connection that is lost: the session begins anew from what is stored.
    pub(super) fn forget_connection(&mut self) {
        self.in_flight.clear();
        self.upstream = None;
        self.comparison.forget_connection();
        self.giving_back = None;
        self.reached = Reached::Unknown;
        self.asks_ahead = false;
        self.void_answers = 0;
        self.next_question = None;
    }

    /// Takes the answer to a question for changes.
    fn take_answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        answer: FollowResponse,
        asked: &Asked,
    ) -> Result<()> {
        let Some(upstream) = &self.upstream else {
            return Ok(());
        };
        check_server(upstream, &answer)?;
        if let Some(time) = answer.time.filter(|_| self.options.from.may_confirm_time) {
            self.node.clock.hear(time, cx.now);
        }
        match answer.answer {
            Answer::CHANGES if planted!(CommitAfterAnswer) && answer.place.number % 3 == 1 => {
                self.count_as_taken(cx, &answer)
            }
            // Somebody else has moved this session on: a late question of an earlier one that had the same number, before this store was put back.
            Answer::CHANGES if !goes_on(upstream, &answer) => {
                self.void_what_is_under_way();
                self.begin(cx, answer.session)
            }
            Answer::CHANGES => self.take_changes(cx, &answer, asked),
            // Nothing was done: the question is asked again.
            Answer::STARTED => {
                if self.reign(upstream) == Some(&answer.reign) {
                    return Err(protocol(
                        "the server was asked under its reign, and says that it has another one",
                    ));
                }
                self.told_reign = Some(answer.reign);
                self.void_what_is_under_way();
                Ok(())
            }
            Answer::START_OVER => self.start_over(cx, answer.head),
            Answer::GIVE_BACK => {
                self.giving_back = Some(GiveBackPass::to(answer.reign));
                Ok(())
            }
            Answer::SUPERSEDED => self.on_superseded(cx, answer.session),
            Answer::PAUSED => Err(Error::new(
                ErrorKind::Peer,
                "the server that is followed has paused the relation",
            )),
            Answer::ENDED => {
                self.note_end(cx)?;
                Err(Error::new(
                    ErrorKind::Peer,
                    "the server that is followed has ended the relation: nobody keeps its copies true here any more",
                ))
            }
            _ => Err(protocol("an answer of a kind that is not known here")),
        }
    }

    /// Goes on under a higher number where a session of a later store, which was lost since, has stopped this one.
    fn on_superseded(&mut self, cx: &mut SessionContext<'_>, by: i64) -> Result<()> {
        let stored = cx
            .store
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, &self.options.relation))?;
        if stored.is_some_and(|stored| stored.session == self.session()) {
            return self.begin(cx, by);
        }
        Err(Error::new(
            ErrorKind::Peer,
            "another session of this relation has begun",
        ))
    }

    /// Notes that the server that is followed has ended the relation.
    fn note_end(&self, cx: &SessionContext<'_>) -> Result<()> {
        cx.store.transact(|transaction| {
            let upstream = self.current_upstream(transaction, self.session())?;
            match upstream.ended {
                None => put_upstream(transaction, &upstream.ended_there(cx.now.wall)),
                Some(_) => Ok(()),
            }
        })
    }

    /// Takes what has changed, and tells whoever listens.
    fn take_changes(
        &mut self,
        cx: &mut SessionContext<'_>,
        answer: &FollowResponse,
        asked: &Asked,
    ) -> Result<()> {
        let applied = self.apply(cx, answer, asked)?;
        let compared = self.compare(cx, answer, (asked, &applied))?;
        let upstream = compared.unwrap_or(applied.upstream);
        self.asks_ahead = answer.head.number > answer.place.number;
        let is_part = self.asks_ahead
            || applied.asks_again
            || upstream.checking.is_some()
            || self.comparison.is_searching()
            || self.reached == Reached::Part && !self.in_flight.is_empty();
        self.reached = if is_part {
            Reached::Part
        } else {
            Reached::Head
        };
        for result in applied.results {
            if let Some(sink) = &mut self.sink {
                sink(&result);
            }
            self.report.add_result(result);
        }
        if let Some(observer) = &mut self.observer {
            // The rest of the feed may concern others: no more objects are left than this.
            let left = u64::try_from(upstream.counts.asked)
                .unwrap_or(0)
                .saturating_add(upstream.lag());
            observer(
                &self
                    .meter
                    .progress(cx.now.tick, &upstream.counts, Some(left)),
            );
        }
        self.upstream = Some(upstream);
        self.give_back_what_has_rotted(answer);
        Ok(())
    }

    /// Has what the issuer can't read any more given back to it, once in a session.
    fn give_back_what_has_rotted(&mut self, answer: &FollowResponse) {
        // What is under way is answered first.
        if !self.in_flight.is_empty() || self.given_back.len() >= MOST_GIVEN_BACK {
            return;
        }
        let wanted = answer.wanted_back.iter().cloned();
        let fresh: Vec<_> = wanted
            .filter(|id| self.given_back.insert(id.clone()))
            .collect();
        if !fresh.is_empty() {
            self.giving_back = Some(GiveBackPass::of(fresh, answer.reign.clone()));
            self.reached = Reached::Part;
        }
    }

    /// Asks from the beginning of the feed, whose head is there now.
    pub(super) fn start_over(&mut self, cx: &SessionContext<'_>, head: Place) -> Result<()> {
        let upstream = self.change_upstream(cx, self.session(), |upstream| {
            upstream.read_anew();
            upstream.head = head.clone();
        })?;
        self.upstream = Some(upstream);
        self.void_what_is_under_way();
        Ok(())
    }

    /// What is under way goes on behind a place that does not count any more.
    fn void_what_is_under_way(&mut self) {
        self.void_answers = self.in_flight.len();
        self.reached = Reached::Unknown;
        self.asks_ahead = false;
    }

    /// The planted fault: the place counts as reached, and what stands before it is not taken.
    fn count_as_taken(&mut self, cx: &SessionContext<'_>, answer: &FollowResponse) -> Result<()> {
        let upstream = self.change_upstream(cx, self.session(), |upstream| {
            upstream.cursor = answer.place.clone();
            upstream.head = answer.head.clone();
            upstream.offers = answer.offers;
        })?;
        self.asks_ahead = false;
        self.reached = Reached::Head;
        self.upstream = Some(upstream);
        Ok(())
    }
}

/// The most objects that one session remembers as given back because they had rotted.
const MOST_GIVEN_BACK: usize = 10_000;

/// Fails unless the answer is from the server, and from the instance of it, that is followed.
fn check_server(upstream: &Upstream, answer: &FollowResponse) -> Result<()> {
    if answer.server != upstream.server {
        return Err(Error::new(
            ErrorKind::Peer,
            format_args!(
                "the server is {:?}, and not {:?}, which is followed",
                answer.server, upstream.server
            ),
        ));
    }
    let is_other = upstream
        .instance
        .as_ref()
        .is_some_and(|instance| *instance != answer.instance);
    if is_other && !planted!(InstanceIgnored) {
        let why = format_args!(
            "another server has the name {:?} now: what this one holds is not taken for its, unless a person accepts it",
            upstream.server
        );
        return Err(Error::new(ErrorKind::Peer, why));
    }
    Ok(())
}

/// Whether an answer begins where this server is: otherwise changes in between would be missed.
fn goes_on(upstream: &Upstream, answer: &FollowResponse) -> bool {
    answer
        .behind
        .is_none_or(|behind| behind == upstream.cursor.number)
        || planted!(GapTaken)
}

/// The one item of an answer, if the issuer did what it was asked.
fn successful_item(response: &ResponseMessage) -> Result<&ResponseItem> {
    let item = response
        .batch
        .first()
        .ok_or_else(|| protocol("an answer without an item"))?;
    if item.is_success() {
        return Ok(item);
    }
    let why = item.result_message.as_deref().unwrap_or_default();
    let reason = item
        .result_reason
        .map(|reason| reason.to_string())
        .unwrap_or_default();
    Err(Error::new(
        ErrorKind::Peer,
        format_args!("the server does not let itself be followed: {reason} {why}"),
    ))
}

fn protocol(why: &str) -> Error {
    Error::new(ErrorKind::Protocol, why)
}
