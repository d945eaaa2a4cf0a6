//! Servers that know nothing of it are brought up to date: by Register and by Import, attribute by attribute, also by a plan.

use crate::bulk::drive::*;
use crate::bulk::foreign::foreign;
use crate::bulk::plans::Paper;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Session, Step, *};
use keyferry_store::{Record, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::io::Cursor;
use std::sync::Arc;

/// What another product may offer.
pub const EVERYTHING: [Operation; 12] = [
    Operation::IMPORT,
    Operation::PUT,
    Operation::REGISTER,
    Operation::LOCATE,
    Operation::GET_ATTRIBUTES,
    Operation::ADD_ATTRIBUTE,
    Operation::MODIFY_ATTRIBUTE,
    Operation::DELETE_ATTRIBUTE,
    Operation::SET_ATTRIBUTE,
    Operation::ACTIVATE,
    Operation::REVOKE,
    Operation::DESTROY,
];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Birth {
    Register,
    Import,
}

pub const BIRTHS: [Birth; 2] = [Birth::Register, Birth::Import];

impl Birth {
    pub fn since(self) -> Version {
        if self == Birth::Import {
            Version::V1_4
        } else {
            Version::V1_0
        }
    }

    pub fn with(
        self,
        version: Version,
        change: impl FnOnce(&mut BulkOptions, &mut RegisterOptions),
    ) -> Box<dyn Session> {
        let mut bulk = BulkOptions {
            version,
            batch: 4,
            ..BulkOptions::new("t", Strategy::Import)
        };
        let mut register = RegisterOptions {
            version,
            batch: 4,
            ..RegisterOptions::new("t")
        };
        change(&mut bulk, &mut register);
        match self {
            Birth::Register => Box::new(Register::new(register)),
            Birth::Import => Box::new(Bulk::new(bulk)),
        }
    }

    pub fn session(self, version: Version) -> Box<dyn Session> {
        self.with(version, |_, _| {})
    }

    pub fn planning(self, version: Version, paper: &Paper) -> Box<dyn Session> {
        let options = BulkOptions {
            version,
            batch: 4,
            ..BulkOptions::new("t", Strategy::Import)
        };
        match self {
            Birth::Register => Box::new(
                Register::new(RegisterOptions {
                    version,
                    batch: 4,
                    ..RegisterOptions::new("t")
                })
                .planning(paper.clone()),
            ),
            Birth::Import => Box::new(Bulk::new(options).planning(paper.clone())),
        }
    }

    pub fn executing(self, version: Version, plan: &[u8]) -> Box<dyn Session> {
        let (options, plan) = (
            BulkOptions {
                version,
                batch: 4,
                ..BulkOptions::new("t", Strategy::Import)
            },
            Cursor::new(plan.to_vec()),
        );
        match self {
            Birth::Register => Box::new(
                Register::new(RegisterOptions {
                    version,
                    batch: 4,
                    ..RegisterOptions::new("t")
                })
                .executing(plan),
            ),
            Birth::Import => Box::new(Bulk::new(options).executing(plan)),
        }
    }
}

pub fn run(a: &Host, t: &Host, session: &mut dyn Session) -> Report {
    let report = drive(a, t, session, "anyone", Cut::Never, &mut |_, message| {
        written(message)
    })
    .unwrap()
    .unwrap();
    assert!(report.counts.add_up(), "{report}");
    report
}

/// Nothing that only a server sets is ever written into an object that is there.
pub fn written(message: &RequestMessage) {
    let cx = context(message.version().unwrap());
    for item in &message.batch {
        let attributes = match item.operation {
            Operation::ADD_ATTRIBUTE => item.payload::<AddAttributeRequest>(cx).unwrap().attribute,
            Operation::MODIFY_ATTRIBUTE => {
                item.payload::<ModifyAttributeRequest>(cx)
                    .unwrap()
                    .attribute
            }
            Operation::SET_ATTRIBUTE => item.payload::<SetAttributeRequest>(cx).unwrap().attribute,
            Operation::DELETE_ATTRIBUTE => {
                item.payload::<DeleteAttributeRequest>(cx).unwrap().current
            }
            _ => continue,
        };
        for attribute in &attributes {
            let row = attribute_row(attribute.value.tag());
            assert!(
                row.is_none_or(|row| row.set_by != SetBy::Server),
                "{:?} is the server's",
                attribute.value
            );
        }
    }
}

pub fn there(a: &Host, id: &str) -> Option<String> {
    let id = a.record(id).id;
    a.store
        .view::<_, Error>(|s| identifier_at_peer(s, "t", &id))
        .unwrap()
        .map(|there| there.to_string())
}

/// Fails unless each attribute is there, or is named as lost.
pub fn compared(a: &Host, t: &Host, id: &str, version: Version, lost: &[String]) {
    let shown = t.client(version).attributes(&there(a, id).unwrap());
    let record: Record = a.record(id);
    for attribute in &record.attributes {
        let mut value = attribute.value.clone();
        if let V::Link(link) = &mut value {
            let target = there(a, link.target.as_text().unwrap());
            link.target = target.unwrap_or_default().as_str().into();
        }
        let kept = shown.iter().any(|other| other.value == value);
        let said = lost.contains(&value.reference().to_string());
        assert!(
            kept || said,
            "{version}: {value:?} is not there, and not named as lost: {shown:?}"
        );
    }
}

pub fn application(data: &str) -> V {
    V::ApplicationSpecificInformation(ApplicationSpecificInformation {
        namespace: "ours".into(),
        data: Some(data.into()),
        extra: Extra::NONE,
    })
}

#[test]
fn all_attributes_are_brought_up_to_date() {
    for birth in BIRTHS {
        for version in ALL.into_iter().filter(|version| *version >= birth.since()) {
            let (a, t) = (master(), foreign(&EVERYTHING));
            let (client, look) = (a.client(Version::V2_1), t.client(version));
            let link = |target: &str| {
                V::Link(Link {
                    link_type: LinkType::DERIVATION_BASE_OBJECT_LINK,
                    target: target.into(),
                    extra: Extra::NONE,
                })
            };
            let ids: Vec<String> = (0..6)
                .map(|n| {
                    let attributes = named(&format!("n{n}"))
                        .with(V::ObjectGroup("g1".into()))
                        .with(V::ObjectGroup("g2".into()))
                        .with(V::ObjectGroup("g3".into()))
                        .with(V::ContactInformation("before".into()))
                        .with(custom("mark", "before"))
                        .with(application("before"));
                    client.register(key(&[n; 16]), attributes)
                })
                .collect();
            let report = run(&a, &t, &mut *birth.session(version));
            assert_eq!(
                report.counts.created,
                6,
                "{birth:?} {version} {}",
                report.table()
            );
            // What others have done there is theirs.
            let to = there(&a, &ids[0]).unwrap();
            look.add(&to, V::ObjectGroup("theirs".into())).unwrap();

            client.add(&ids[0], name("another")).unwrap();
            client.delete(&ids[0], V::ObjectGroup("g2".into())).unwrap();
            client
                .modify(
                    &ids[0],
                    Some(V::ObjectGroup("g3".into())),
                    V::ObjectGroup("g4".into()),
                )
                .unwrap();
            client
                .modify(&ids[1], None, V::ContactInformation("after".into()))
                .unwrap();
            client
                .delete_all(&ids[2], reference(tag::CONTACT_INFORMATION))
                .unwrap();
            client.add(&ids[2], link(&ids[3])).unwrap();
            client
                .modify(&ids[3], Some(application("before")), application("after"))
                .unwrap();
            client
                .modify(
                    &ids[3],
                    Some(custom("mark", "before")),
                    custom("mark", "after"),
                )
                .unwrap();
            client
                .add(&ids[4], V::ActivationDate(DateTime(START + 5000)))
                .unwrap();
            client.activate(&ids[5]).unwrap();
            client
                .add(&ids[5], V::ObjectGroup("active".into()))
                .unwrap();
            a.pass(1);
            t.pass(1);
            let report = run(&a, &t, &mut *birth.session(version));
            assert_eq!(
                (report.counts.updated, report.counts.failed),
                (6, 0),
                "{birth:?} {version} {}",
                report.table()
            );
            for id in &ids {
                let lost = report
                    .losses
                    .iter()
                    .find(|loss| loss.identifier == *id)
                    .map(|loss| loss.attributes.clone());
                let lost = lost.unwrap_or_default();
                compared(&a, &t, id, version, &lost);
                for kept in [
                    "Name",
                    "Object Group",
                    "Contact Information",
                    "Link",
                    "Activation Date",
                    "State",
                ] {
                    let set_there = kept == "Activation Date" && *id == ids[5];
                    assert!(
                        set_there || !lost.contains(&kept.to_owned()),
                        "{birth:?} {version} {id}: {kept}"
                    );
                }
            }
            let shown = look.attributes(&to);
            let groups: Vec<&V> = shown.all(tag::OBJECT_GROUP).collect();
            assert_eq!(groups.len(), 3, "{groups:?}");
            assert!(
                groups.contains(&&V::ObjectGroup("theirs".into())),
                "{groups:?}"
            );
            assert!(
                look.attributes(&there(&a, &ids[2]).unwrap())
                    .get(tag::CONTACT_INFORMATION)
                    .is_none()
            );
            assert_eq!(look.state(&there(&a, &ids[5]).unwrap()), State::ACTIVE);
            // Once more: nothing is sent but the question.
            let mut messages = 0;
            let mut session = birth.session(version);
            let report = drive(&a, &t, &mut *session, "anyone", Cut::Never, &mut |_, _| {
                messages += 1
            })
            .unwrap()
            .unwrap();
            assert_eq!((report.counts.unchanged, messages), (6, 1));
        }
    }
}

#[test]
fn what_the_peer_does_not_offer_or_refuses_is_named() {
    let without = |lacking: &[Operation]| -> Vec<Operation> {
        EVERYTHING
            .into_iter()
            .filter(|operation| !lacking.contains(operation))
            .collect()
    };
    let few = without(&[
        Operation::ADD_ATTRIBUTE,
        Operation::SET_ATTRIBUTE,
        Operation::DELETE_ATTRIBUTE,
    ]);
    for birth in BIRTHS {
        let (a, t) = (master(), foreign(&few));
        let client = a.client(Version::V2_1);
        let id = client.register(key(&[1; 16]), named("n").with(V::ObjectGroup("g".into())));
        run(&a, &t, &mut *birth.session(Version::V1_4));
        client
            .add(&id, V::ContactInformation("somebody".into()))
            .unwrap();
        client
            .delete_all(&id, reference(tag::OBJECT_GROUP))
            .unwrap();
        client.modify(&id, None, name("m")).unwrap();
        let report = run(&a, &t, &mut *birth.session(Version::V1_4));
        assert_eq!(report.counts.updated, 1);
        let lost = &report.losses[0].attributes;
        assert!(lost.contains(&"Contact Information".to_owned()), "{lost:?}");
        assert!(
            lost.contains(&"Object Group".to_owned()),
            "what should be gone is named, too: {lost:?}"
        );
        assert!(!lost.contains(&"Name".to_owned()));
        assert_eq!(t.client(Version::V1_4).locate(named("m")).len(), 1);
        // Another has the Name there.
        t.client(Version::V1_4).create(named("taken"));
        client.modify(&id, None, name("taken")).unwrap();
        let report = run(&a, &t, &mut *birth.session(Version::V1_4));
        assert_eq!(report.counts.updated, 1);
        assert!(
            report.losses[0].attributes.contains(&"Name".to_owned()),
            "{birth:?} {:?}",
            report.losses
        );
    }
}

/// Does not know one of the attributes.
struct Picky;

impl Responder for Picky {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let request: AddAttributeRequest =
            (item.operation == Operation::ADD_ATTRIBUTE).then(|| item.payload(ask.cx).unwrap())?;
        let bad = request.attribute.get(tag::CONTACT_INFORMATION).is_some();
        bad.then(|| Err(Failure::new(Cause::InvalidMessage, "it is not known here")))
    }
}

#[test]
fn one_change_that_is_refused_does_not_hold_up_the_others() {
    for birth in BIRTHS {
        for version in [Version::V1_4, Version::V2_1] {
            let (a, mut t) = (master(), foreign(&EVERYTHING));
            t.server = Arc::new(Arc::into_inner(t.server).unwrap().with(Arc::new(Picky)));
            let client = a.client(Version::V2_1);
            let ids: Vec<String> = (0..3)
                .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
                .collect();
            run(&a, &t, &mut *birth.session(version));
            for id in &ids {
                client
                    .add(id, V::ContactInformation("somebody".into()))
                    .unwrap();
                client.add(id, V::ObjectGroup("g".into())).unwrap();
            }
            client
                .revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE)
                .unwrap();
            let report = drive_stopping(&a, &t, &mut *birth.session(version));
            assert_eq!(
                (report.counts.updated, report.counts.failed),
                (3, 0),
                "{birth:?} {version} {}",
                report.table()
            );
            for id in &ids {
                let shown = t.client(version).attributes(&there(&a, id).unwrap());
                assert_eq!(
                    shown.all(tag::OBJECT_GROUP).count(),
                    1,
                    "{birth:?} {version}"
                );
                assert_eq!(shown.state(), a.record(id).attributes.state());
            }
        }
    }
}

/// Drives a session at a peer that stops at the first failed item of a message, whatever it was asked for.
pub fn drive_stopping(a: &Host, t: &Host, session: &mut dyn Session) -> Report {
    let mut random = keyferry_crypto::SystemRandom::new();
    let (mut ticket, mut pending) = (0, None);
    loop {
        let mut cx = SessionContext {
            now: a.now(),
            store: &*a.store,
            random: &mut random,
        };
        match session.poll(&mut cx, Ticket(ticket)).unwrap() {
            Step::Done(report) => return *report,
            Step::Send(message) => pending = Some(*message),
            _ => {}
        }
        let Some(mut message) = pending.take() else {
            panic!("it waits for nothing")
        };
        message.header.batch_error_continuation_option = None;
        let Answer::Reply(frame) =
            t.server
                .answer(&identity("anyone"), t.now(), &message.to_frame().unwrap())
        else {
            panic!()
        };
        let answer = ResponseMessage::from_frame(&frame).unwrap();
        let mut cx = SessionContext {
            now: a.now(),
            store: &*a.store,
            random: &mut random,
        };
        session.answer(&mut cx, Ticket(ticket), Ok(answer)).unwrap();
        ticket += 1;
        assert!(ticket < 200, "it does not come to an end");
    }
}

#[test]
fn what_is_destroyed_here_is_destroyed_there_only_if_it_is_ours_and_may_be() {
    for birth in BIRTHS {
        for may_destroy in [true, false] {
            let (a, t) = (master(), foreign(&EVERYTHING));
            let client = a.client(Version::V2_1);
            let ids: Vec<String> = (0..3)
                .map(|n| client.register(key(&[n; 16]), none()))
                .collect();
            client.activate(&ids[1]).unwrap();
            // One that was never there, though its identifier is another's.
            let never = client.register(key(&[9; 16]), none());
            client.destroy(&never).unwrap();
            let theirs = t
                .client(Version::V2_1)
                .import(&never, Some(key(&[8; 16])), none(), false)
                .unwrap();
            run(&a, &t, &mut *birth.session(Version::V1_4));
            client.destroy(&ids[0]).unwrap();
            client
                .revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE)
                .unwrap();
            client.destroy(&ids[1]).unwrap();
            let mut session = birth.with(Version::V1_4, |bulk, register| {
                (bulk.may_destroy, register.may_destroy) = (may_destroy, may_destroy);
            });
            let report = run(&a, &t, &mut *session);
            assert_eq!(
                (report.counts.updated, report.counts.skipped),
                (2, Some(1)),
                "{}",
                report.table()
            );
            let state = |id: &String| t.client(Version::V1_4).state(&there(&a, id).unwrap());
            if may_destroy {
                assert_eq!(
                    [state(&ids[0]), state(&ids[1])],
                    [State::DESTROYED, State::DESTROYED_COMPROMISED]
                );
            } else {
                assert_eq!(
                    [state(&ids[0]), state(&ids[1])],
                    [State::DEACTIVATED, State::COMPROMISED]
                );
                assert!(
                    report
                        .losses
                        .iter()
                        .filter(|loss| loss.attributes.contains(&"State".to_owned()))
                        .count()
                        == 2
                );
            }
            assert_eq!(state(&ids[2]), State::PRE_ACTIVE);
            assert_eq!(
                t.client(Version::V1_4).state(&theirs),
                State::PRE_ACTIVE,
                "what we did not put there is not ours to destroy"
            );
        }
    }
}
