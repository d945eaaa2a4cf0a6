//! What a replica gives back to an issuer that has lost something: all that it holds of that server's objects.

use crate::error::{Error, Result};
use crate::follow::options::FollowOptions;
use crate::material::transit::reason_withheld;
use crate::node::Node;
use crate::relation::followed::Upstream;
use crate::session::SessionContext;
use crate::wire::copy::Copy;
use crate::wire::follow::{Change, GiveBackRequest, Kind};
use keyferry_kmip::Secret;
use keyferry_store::record::material_of;
use keyferry_store::{SnapshotExt, StoreExt};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;
use std::sync::Arc;

/// How far the own feed was looked through.
pub(crate) struct Back {
    after: u64,
    /// The reign that asks for it.
    reign: Vec<u8>,
}

impl Back {
    pub(crate) fn to(reign: Vec<u8>) -> Self {
        Back { after: 0, reign }
    }

    /// The next part.
    pub(crate) fn next(
        &mut self,
        cx: &mut SessionContext<'_>,
        node: &Arc<Node>,
        master: &Upstream,
        options: &FollowOptions,
    ) -> Result<GiveBackRequest> {
        let (most, most_bytes) = (options.batch.max(1), options.batch_bytes.max(1));
        let (found, end, last) = cx.store.view::<_, Error>(|snapshot| {
            let (mut found, mut end, mut bytes) = (Vec::new(), self.after, 0);
            loop {
                let mut numbers = Vec::new();
                snapshot.feed(end, &mut |row| {
                    numbers.push((row.number, row.record));
                    Ok(if numbers.len() < most {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                })?;
                if numbers.is_empty() {
                    return Ok((found, end, true));
                }
                for (place, number) in numbers {
                    end = place;
                    let Some(record) = snapshot.record(number)? else {
                        continue;
                    };
                    let whole = record
                        .overlay
                        .as_ref()
                        .is_none_or(|overlay| overlay.without.is_empty());
                    if record.stamp.issuer != master.server || record.is_withdrawn() || !whole {
                        continue;
                    }
                    let object = snapshot.whole(number)?.and_then(|(_, object)| object);
                    bytes += 600
                        + object
                            .as_ref()
                            .map_or(0, keyferry_kmip::Object::material_len);
                    found.push((record, object));
                    if found.len() >= most || bytes >= most_bytes {
                        return Ok((found, end, false));
                    }
                }
            }
        })?;
        self.after = end;
        let wrapping = options
            .from
            .wrapping
            .clone()
            .map(|wrapping| (node.clone(), wrapping));
        let mut changes = Vec::new();
        for (record, object) in found {
            if reason_withheld(&record, wrapping.is_some()).is_some() && !record.is_destroyed() {
                continue;
            }
            let way = crate::material::transit::wrap_for_transit(
                cx,
                wrapping.as_ref(),
                crate::wire::follow::SPOKEN,
                &record,
                object,
            );
            let Ok((object, wrapped)) = way else { continue };
            let material = object.map(|object| material_of(&object)).transpose()?;
            let mut copy = Copy::of(&record, record.attributes.clone(), None)?;
            copy.owner = record
                .overlay
                .as_ref()
                .and_then(|overlay| overlay.owner.clone());
            // By the name that it has at its issuer, as far as that is known.
            let identifier = if record.id.server == master.server {
                record.id.identifier.clone()
            } else {
                record.identifier.clone()
            };
            changes.push(Change {
                kind: Kind::COPY,
                identifier,
                object_type: Some(record.object_type),
                copy,
                material: material.map(|bytes| Secret::new(&bytes)),
                wrapped: wrapped.then_some(true),
                why: None,
                extra: Extra::NONE,
            });
        }
        Ok(GiveBackRequest {
            relation: master.relation.clone(),
            session: master.session,
            reign: Some(self.reign.clone()),
            changes,
            last,
            extra: Extra::NONE,
        })
    }
}
