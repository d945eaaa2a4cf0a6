//! What clients do.

use crate::rng::Rng;
use crate::site::Site;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::{Effects, Material, ObjectId, Record, SnapshotExt};
use keyferry_ttlv::Extra;

pub const GROUPS: [&str; 3] = ["red", "green", "blue"];

pub fn name(value: &str) -> V {
    V::Name(Name {
        value: value.into(),
        name_type: NameType::UNINTERPRETED_TEXT_STRING,
        extra: Extra::NONE,
    })
}

pub fn key(seed: u64) -> Object {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&bytes))
}

/// A new object with this identifier.
pub fn make(
    site: &mut Site,
    now: Now,
    identifier: &str,
    material: u64,
    attributes: Attributes,
) -> bool {
    site.change(now, |site, ask| {
        if ask.snapshot.by_identifier(identifier).unwrap().is_some() {
            return Ok(Effects::none());
        }
        let mut attributes = attributes.clone();
        attributes.number();
        for name in attributes.names() {
            if ask
                .snapshot
                .first(&keyferry_store::index::name(&name.value), &|_| true)
                .unwrap()
                .is_some()
            {
                return Ok(Effects::none());
            }
        }
        set_default_attributes(&mut attributes, now.wall);
        let object = key(material);
        site.node.digest(&mut attributes, &object);
        let reign = ask.snapshot.reign().unwrap();
        let mut record = site.node.new_record(
            reign,
            identifier.into(),
            ObjectType::SYMMETRIC_KEY,
            attributes,
        );
        record.owner = Some("client".into());
        site.node.recognise(ask, &mut record, &object)?;
        Ok(Effects::change(None, record, Material::Set(object.into())))
    })
}

/// A change of an object that the site issues.
pub fn change(
    site: &mut Site,
    now: Now,
    id: &ObjectId,
    change: impl Fn(&mut Record) -> Result<(), Failure>,
) -> bool {
    site.change(now, |site, ask| {
        let Some((number, before)) = ask.snapshot.by_object_id(id).unwrap() else {
            return Ok(Effects::none());
        };
        site.node.check_issuer(ask.snapshot, &before)?;
        let mut after = before.clone();
        change(&mut after)?;
        after.attributes.number();
        for name in after.attributes.names() {
            let clashes = |other: &Record| other.id != after.id;
            if ask
                .snapshot
                .first(&keyferry_store::index::name(&name.value), &clashes)
                .unwrap()
                .is_some()
            {
                return Ok(Effects::none());
            }
        }
        site.node
            .advance(&mut after, ask.snapshot.reign().unwrap(), now.wall);
        let material = if after.is_destroyed() {
            Material::Remove
        } else {
            Material::Keep
        };
        Ok(Effects::change(Some((number, before)), after, material))
    })
}

pub fn event(site: &mut Site, now: Now, id: &ObjectId, event: &lifecycle::Event) -> bool {
    change(site, now, id, |record| {
        lifecycle::apply(&mut record.attributes, event, now.wall)
    })
}

pub fn revoke(code: RevocationReasonCode) -> lifecycle::Event {
    lifecycle::Event::Revoke(
        RevocationReason {
            code,
            message: None,
            extra: Extra::NONE,
        },
        None,
    )
}

/// Something that a client does.
pub fn random(site: &mut Site, rng: &mut Rng, now: Now) -> bool {
    let own: Vec<Record> = site
        .records()
        .into_iter()
        .filter(|record| site.node.issues(record))
        .collect();
    if own.is_empty() || own.len() < 12 && rng.one_in(3) {
        let group = GROUPS[rng.below(GROUPS.len())];
        let mut attributes = Attributes::new().with(V::ObjectGroup(group.into()));
        if rng.one_in(2) {
            attributes.push(name(&format!("name {}", rng.below(10))));
        }
        if rng.one_in(4) {
            attributes.push(V::ActivationDate(DateTime(
                now.wall.0 + rng.below(60) as i64,
            )));
        }
        // Two servers number their objects alike, and sometimes the same material is there twice.
        let (identifier, material) = (format!("{}", 1 + rng.below(20)), rng.below(40) as u64);
        return make(site, now, &identifier, material, attributes);
    }
    let id = own[rng.below(own.len())].id.clone();
    match rng.below(12) {
        0 => event(site, now, &id, &lifecycle::Event::Activate),
        1 => event(site, now, &id, &revoke(RevocationReasonCode::SUPERSEDED)),
        2 => event(
            site,
            now,
            &id,
            &revoke(RevocationReasonCode::KEY_COMPROMISE),
        ),
        3 => event(site, now, &id, &lifecycle::Event::Destroy),
        4 | 5 => {
            let group = GROUPS[rng.below(GROUPS.len())];
            change(site, now, &id, |record| {
                record.attributes.remove(tag::OBJECT_GROUP);
                record.attributes.push(V::ObjectGroup(group.into()));
                Ok(())
            })
        }
        6 => {
            let value = format!("name {}", rng.below(10));
            change(site, now, &id, |record| {
                record.attributes.push(name(&value));
                Ok(())
            })
        }
        7 => change(site, now, &id, |record| {
            record.attributes.remove(tag::NAME);
            Ok(())
        }),
        8 => {
            let date = DateTime(now.wall.0 + rng.below(100) as i64 - 20);
            change(site, now, &id, |record| {
                record.attributes.set(V::DeactivationDate(date));
                Ok(())
            })
        }
        9 => site.change(now, |site, ask| {
            // What dates have led to.
            let mut effects = Effects::none();
            let reign = ask.snapshot.reign().unwrap();
            let Some((number, before)) = ask.snapshot.by_object_id(&id).unwrap() else {
                return Ok(effects);
            };
            let mut after = before.clone();
            lifecycle::store_state_at(&mut after.attributes, now.wall);
            if after != before && site.node.issues(&before) {
                site.node.advance(&mut after, reign, now.wall);
                effects.extend(Effects::change(
                    Some((number, before)),
                    after,
                    Material::Keep,
                ));
            }
            Ok(effects)
        }),
        _ => {
            let value = CustomAttribute::text("note", format!("{}", rng.below(1000)));
            change(site, now, &id, |record| {
                record
                    .attributes
                    .retain(|a| !matches!(a.value, V::Custom(_)));
                record.attributes.push(V::Custom(value.clone()));
                Ok(())
            })
        }
    }
}
