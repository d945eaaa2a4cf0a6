//! A server that knows nothing of keyferry: a map, and the standard's operations on it, one by one.

use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};
use std::collections::BTreeMap;

pub struct Thing {
    pub object: Option<Object>,
    pub object_type: ObjectType,
    pub attributes: Attributes,
}

impl Thing {
    pub fn state(&self) -> State {
        self.attributes.state().unwrap()
    }
}

#[derive(Default)]
pub struct Naive {
    pub things: BTreeMap<String, Thing>,
    /// Seconds since 1970, by its own clock.
    pub clock: i64,
    pub next: usize,
    /// It keeps nothing of what is destroyed.
    pub forgets: bool,
    /// It finds everything, whatever date is asked for.
    pub ignores_dates: bool,
    /// Identifiers in an answer at the most.
    pub cap: usize,
}

pub const OPERATIONS: [Operation; 12] = [
    Operation::QUERY,
    Operation::REGISTER,
    Operation::IMPORT,
    Operation::GET,
    Operation::GET_ATTRIBUTES,
    Operation::LOCATE,
    Operation::ADD_ATTRIBUTE,
    Operation::MODIFY_ATTRIBUTE,
    Operation::DELETE_ATTRIBUTE,
    Operation::ACTIVATE,
    Operation::REVOKE,
    Operation::DESTROY,
];

fn id(given: Option<UniqueIdentifier>) -> Result<String, Failure> {
    let given = given
        .as_ref()
        .and_then(UniqueIdentifier::as_text)
        .map(str::to_owned);
    given.ok_or_else(|| Failure::new(Cause::InvalidField, "no identifier"))
}

impl Naive {
    /// What dates lead to.
    pub fn settle(&mut self) {
        let now = DateTime(self.clock);
        self.things
            .values_mut()
            .for_each(|thing| lifecycle::store_state_at(&mut thing.attributes, now));
    }

    pub fn answer(&mut self, message: &RequestMessage) -> ResponseMessage {
        let version = message.version().unwrap();
        let goes_on = message.header.batch_error_continuation_option
            == Some(BatchErrorContinuationOption::CONTINUE);
        let mut items = Vec::new();
        for item in &message.batch {
            assert!(
                item.message_extensions.is_empty(),
                "a foreign server is sent nothing of ours"
            );
            match self.item(item, context(version)) {
                Ok(answer) => items.push(answer),
                Err(failure) => {
                    items.push(ResponseItem::failure(
                        Some(item.operation),
                        &failure,
                        version,
                    ));
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        ResponseMessage::new(version, DateTime(self.clock), items)
    }

    fn item(
        &mut self,
        item: &RequestItem,
        cx: keyferry_ttlv::Context,
    ) -> Result<ResponseItem, Failure> {
        self.settle();
        let extra = Extra::NONE;
        // 1.x says what it has written.
        let written = |attributes: Attributes| {
            if cx.version < Version::V2_0 {
                attributes
            } else {
                Attributes::new()
            }
        };
        let told = |id: &str| UniqueIdentifier::Text(id.into());
        Ok(match item.operation {
            Operation::QUERY => ResponseItem::success(&self.query(), cx)?,
            Operation::REGISTER => {
                let request: RegisterRequest = item.payload(cx)?;
                self.next += 1;
                let name = format!("r{}", self.next);
                self.insert(
                    &name,
                    request.object.unwrap(),
                    request.attributes.attributes,
                    None,
                );
                ResponseItem::success(
                    &RegisterResponse {
                        unique_identifier: told(&name),
                        attributes: None,
                        extra,
                    },
                    cx,
                )?
            }
            Operation::IMPORT => {
                let request: ImportRequest = item.payload(cx)?;
                assert_ne!(
                    request.replace_existing,
                    Some(true),
                    "nothing is ever replaced unasked"
                );
                let name = id(Some(request.unique_identifier))?;
                if self.things.contains_key(&name) {
                    return Err(Failure::new(Cause::ObjectExists, "it is there"));
                }
                let state = request.attributes.state();
                self.insert(&name, request.object.unwrap(), request.attributes, state);
                ResponseItem::success(
                    &ImportResponse {
                        unique_identifier: told(&name),
                        extra,
                    },
                    cx,
                )?
            }
            Operation::GET => {
                let name = id(item.payload::<GetRequest>(cx)?.unique_identifier)?;
                let thing = self.thing(&name)?;
                let object = thing
                    .object
                    .clone()
                    .ok_or_else(|| Failure::new(Cause::ObjectDestroyed, "it is destroyed"))?;
                let (object_type, unique_identifier) = (thing.object_type, told(&name));
                ResponseItem::success(
                    &GetResponse {
                        object_type,
                        unique_identifier,
                        object,
                        extra,
                    },
                    cx,
                )?
            }
            Operation::GET_ATTRIBUTES => {
                let name = id(item.payload::<GetAttributesRequest>(cx)?.unique_identifier)?;
                let mut attributes = self.thing(&name)?.attributes.clone();
                attributes.push(V::UniqueIdentifier(told(&name)));
                ResponseItem::success(
                    &GetAttributesResponse {
                        unique_identifier: told(&name),
                        attributes,
                        extra,
                    },
                    cx,
                )?
            }
            Operation::LOCATE => ResponseItem::success(&self.locate(&item.payload(cx)?), cx)?,
            Operation::ADD_ATTRIBUTE => {
                let request: AddAttributeRequest = item.payload(cx)?;
                let name = id(request.unique_identifier)?;
                let attribute = request.attribute;
                for one in &attribute {
                    let held = self
                        .thing(&name)?
                        .attributes
                        .iter()
                        .any(|held| held.value == one.value);
                    let single = !one.value.may_repeat()
                        && self.thing(&name)?.attributes.get(one.value.tag()).is_some();
                    if held || single && !matches!(one.value, V::Custom(_)) {
                        return Err(Failure::new(Cause::InvalidField, "it has that already"));
                    }
                }
                self.write(&name, |attributes| {
                    attribute
                        .iter()
                        .for_each(|one| attributes.push(one.value.clone()))
                })?;
                {
                    let attribute = written(attribute);
                    ResponseItem::success(
                        &AddAttributeResponse {
                            unique_identifier: told(&name),
                            attribute,
                            extra,
                        },
                        cx,
                    )?
                }
            }
            Operation::MODIFY_ATTRIBUTE => {
                let request: ModifyAttributeRequest = item.payload(cx)?;
                let name = id(request.unique_identifier)?;
                let attribute = request.attribute;
                let new = attribute.iter().next().cloned().unwrap();
                let current = request
                    .current
                    .iter()
                    .next()
                    .map(|current| current.value.clone());
                self.write(&name, |attributes| {
                    let is = |held: &&mut Attribute| match &current {
                        Some(current) => held.value == *current,
                        None => {
                            held.value.is_same_attribute(&new.value)
                                && held.index.unwrap_or(0) == new.index.unwrap_or(0)
                        }
                    };
                    attributes
                        .iter_mut()
                        .find(is)
                        .into_iter()
                        .for_each(|held| held.value = new.value.clone());
                })?;
                {
                    let attribute = written(attribute);
                    ResponseItem::success(
                        &ModifyAttributeResponse {
                            unique_identifier: told(&name),
                            attribute,
                            extra,
                        },
                        cx,
                    )?
                }
            }
            Operation::DELETE_ATTRIBUTE => {
                let request: DeleteAttributeRequest = item.payload(cx)?;
                let name = id(request.unique_identifier)?;
                let attribute = request.current.clone();
                self.write(&name, |attributes| {
                    attributes.retain(|held| {
                        let named = request.references.0.contains(&held.value.reference());
                        let index = request
                            .attribute_index
                            .is_none_or(|index| held.index.unwrap_or(0) == index);
                        !(named && index
                            || request
                                .current
                                .iter()
                                .any(|current| current.value == held.value))
                    });
                })?;
                {
                    let attribute = written(attribute);
                    ResponseItem::success(
                        &DeleteAttributeResponse {
                            unique_identifier: told(&name),
                            attribute,
                            extra,
                        },
                        cx,
                    )?
                }
            }
            Operation::ACTIVATE => {
                let name = id(item.payload::<ActivateRequest>(cx)?.unique_identifier)?;
                self.event(&name, &lifecycle::Event::Activate)?;
                ResponseItem::success(
                    &ActivateResponse {
                        unique_identifier: told(&name),
                        extra,
                    },
                    cx,
                )?
            }
            Operation::REVOKE => {
                let request: RevokeRequest = item.payload(cx)?;
                let name = id(request.unique_identifier)?;
                let event = lifecycle::Event::Revoke(
                    request.revocation_reason,
                    request.compromise_occurrence_date,
                );
                self.event(&name, &event)?;
                ResponseItem::success(
                    &RevokeResponse {
                        unique_identifier: told(&name),
                        extra,
                    },
                    cx,
                )?
            }
            Operation::DESTROY => {
                let name = id(item.payload::<DestroyRequest>(cx)?.unique_identifier)?;
                self.event(&name, &lifecycle::Event::Destroy)?;
                ResponseItem::success(
                    &DestroyResponse {
                        unique_identifier: told(&name),
                        extra,
                    },
                    cx,
                )?
            }
            other => {
                return Err(Failure::new(
                    Cause::OperationNotSupported,
                    format_args!("{other} is not known here"),
                ));
            }
        })
    }

    fn query(&self) -> QueryResponse {
        QueryResponse {
            operations: OPERATIONS.to_vec(),
            object_types: Vec::new(),
            vendor_identification: Some("naive".into()),
            server_information: None,
            application_namespaces: Vec::new(),
            extension_information: Vec::new(),
            attestation_types: Vec::new(),
            rng_parameters: Vec::new(),
            profile_information: Vec::new(),
            validation_information: Vec::new(),
            capability_information: Vec::new(),
            client_registration_methods: Vec::new(),
            defaults_information: None,
            protection_storage_masks: None,
            extra: Extra::NONE,
        }
    }

    fn insert(
        &mut self,
        name: &str,
        object: Object,
        mut attributes: Attributes,
        state: Option<State>,
    ) {
        let now = DateTime(self.clock);
        attributes.set(V::State(state.unwrap_or(State::PRE_ACTIVE)));
        attributes.set(V::ObjectType(object.object_type()));
        attributes.set(V::LastChangeDate(now));
        if state.is_none() || attributes.get(tag::INITIAL_DATE).is_none() {
            attributes.set(V::InitialDate(now));
        }
        let object_type = object.object_type();
        let before = self.things.insert(
            name.into(),
            Thing {
                object: Some(object),
                object_type,
                attributes,
            },
        );
        assert!(before.is_none(), "nothing comes in the place of another");
    }

    fn thing(&mut self, name: &str) -> Result<&mut Thing, Failure> {
        self.things
            .get_mut(name)
            .ok_or_else(|| Failure::new(Cause::ObjectNotFound, "there is none"))
    }

    pub fn write(
        &mut self,
        name: &str,
        change: impl FnOnce(&mut Attributes),
    ) -> Result<(), Failure> {
        let now = DateTime(self.clock);
        let thing = self.thing(name)?;
        if thing.object.is_none() {
            return Err(Failure::new(Cause::ObjectDestroyed, "it is destroyed"));
        }
        change(&mut thing.attributes);
        thing.attributes.set(V::LastChangeDate(now));
        Ok(())
    }

    pub fn event(&mut self, name: &str, event: &lifecycle::Event) -> Result<(), Failure> {
        let now = DateTime(self.clock);
        let thing = self.thing(name)?;
        let before = lifecycle::Rank::of(thing.state());
        lifecycle::apply(&mut thing.attributes, event, now)?;
        assert!(before.may_become(lifecycle::Rank::of(thing.state())));
        thing.attributes.set(V::LastChangeDate(now));
        if lifecycle::is_destroyed(thing.state()) {
            thing.object = None;
            if self.forgets {
                self.things.remove(name);
            }
        }
        Ok(())
    }

    fn locate(&self, request: &LocateRequest) -> LocateResponse {
        let mut wanted = request.attributes.clone();
        if self.ignores_dates {
            wanted.remove(tag::LAST_CHANGE_DATE);
        }
        let mask = request.storage_status_mask.map_or(0, |mask| mask.0);
        let is_match = |thing: &Thing| {
            let seen = thing.object.is_some() || mask & StorageStatusMask::DESTROYED_STORAGE.0 != 0;
            seen && wanted.iter().all(|one| match one.value.date() {
                Some(_) => {
                    let of: Vec<DateTime> =
                        wanted.all(one.value.tag()).filter_map(V::date).collect();
                    let (from, to) = (of.iter().min().unwrap(), of.iter().max().unwrap());
                    thing
                        .attributes
                        .date(one.value.tag())
                        .is_some_and(|date| *from <= date && date <= *to)
                }
                None => thing.attributes.iter().any(|held| held.value == one.value),
            })
        };
        let offset = request.offset_items.unwrap_or(0) as usize;
        let most = request
            .maximum_items
            .map_or(usize::MAX, |n| n as usize)
            .min(self.cap.max(1));
        let mut response = LocateResponse::default();
        let all = self.things.iter().filter(|(_, thing)| is_match(thing));
        all.skip(offset)
            .take(most)
            .for_each(|(name, _)| response.unique_identifiers.push(name));
        response
    }
}
