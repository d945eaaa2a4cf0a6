//! Probes: a probe is a throw-away key that shows whether the peer keeps the State of a key that is not usable ([rule 14](crate::design#rule-14)).

use crate::error::{Error, ErrorKind, Result};
use crate::push::publish::object::{Kind, Stage, Work};
use crate::push::publish::steps::{self, Level};
use crate::push::publish::{KeepsState, Publish};
use crate::relation::keys;
use crate::session::SessionContext;
use keyferry_kmip::spec::{CryptographicAlgorithm, ObjectType};
use keyferry_kmip::{Object, Secret, Text};
use keyferry_store::{Incarnation, Lineage, ObjectId, Record, SnapshotExt, Stamp, StoreExt};
use keyferry_ttlv::Extra;

impl Publish {
    /// Makes a probe. Its identifier is stored before it is sent.
    pub(super) fn new_probe(&self, cx: &mut SessionContext<'_>) -> Result<Work> {
        let mut bytes = [0; 32];
        cx.random
            .fill(&mut bytes)
            .map_err(|e| Error::caused_by(ErrorKind::Random, e))?;
        let (name, material) = bytes.split_at(16);
        let identifier: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        self.store(
            cx,
            &[(self.probe_key(), Some(identifier.as_bytes().to_vec()))],
        )?;
        let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(material));
        Ok(probe_work(
            identifier.into(),
            Some(object),
            Kind::Probe,
            Stage::Create,
        ))
    }

    /// Finds the probe of an interrupted session, as long as nobody knows that the peer does not have it any more.
    pub(super) fn leftover_probe(&self, cx: &SessionContext<'_>) -> Result<Option<Work>> {
        let stored = cx
            .store
            .view::<_, Error>(|snapshot| Ok(snapshot.state_value(&self.probe_key())?))?;
        let Some(identifier) = stored.and_then(|stored| String::from_utf8(stored).ok()) else {
            return Ok(None);
        };
        let imports = self.imports();
        let stage = if imports {
            Stage::inspect()
        } else {
            Stage::Locate
        };
        Ok(Some(Work {
            peer_identifier: imports.then(|| Text::from(identifier.clone())),
            ..probe_work(identifier.into(), None, Kind::LeftoverProbe, stage)
        }))
    }

    /// The state key of the probe that may be at the peer.
    pub(super) fn probe_key(&self) -> Vec<u8> {
        keys::probe(&self.setting.name)
    }

    /// Whether a probe is on its way: until it is over, nothing else is sent.
    pub(super) fn is_probing(&self) -> bool {
        self.works
            .first()
            .is_some_and(|work| work.is_probe() && !work.is_over())
    }

    /// Notes that the State of a key that is not usable is not kept, as far as can be seen, once a probe ended without showing it.
    pub(super) fn conclude_probe(&mut self) {
        if self.keeps_state == KeepsState::Unknown
            && self
                .works
                .first()
                .is_some_and(|work| work.kind == Kind::Probe && work.is_over())
        {
            self.keeps_state = KeepsState::No;
        }
    }
}

fn probe_work(identifier: Text, object: Option<Object>, kind: Kind, stage: Stage) -> Work {
    let record = Record {
        id: ObjectId {
            server: "probe".into(),
            instance: Vec::new(),
            identifier: identifier.clone(),
        },
        identifier,
        owner: None,
        stamp: Stamp::first(&"probe".into(), Incarnation([0; 16])),
        lineage: Lineage::new(),
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: steps::probe_attributes(),
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    };
    Work {
        level: Level::Core,
        ..Work::new(record, object, kind, stage)
    }
}
