//! A server over a memory store, and a client that hands it bytes.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::attribute::AttributeReferences;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Policy, Unrestricted};
use keyferry_server::{Access, Options, Server};
use keyferry_store::{Faulty, Incarnation, Memory, Record, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Extra, Frame, Version};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// When tests begin.
pub const START: i64 = 1_700_000_000;

/// Every version that is spoken, oldest first.
pub const ALL: [Version; 7] = [
    Version::V1_0,
    Version::V1_1,
    Version::V1_2,
    Version::V1_3,
    Version::V1_4,
    Version::V2_0,
    Version::V2_1,
];

/// The Result Reason and Result Message of a failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused(pub ResultReason, pub String);

pub type ItemResult<T = ()> = Result<T, Refused>;

/// A server and its clock.
#[derive(Clone)]
pub struct Host {
    pub server: Arc<Server>,
    pub store: Arc<Faulty<Memory>>,
    pub clock: Arc<AtomicI64>,
    /// How far its wall clock was set, in seconds.
    pub jumped: Arc<AtomicI64>,
}

impl Host {
    pub fn new() -> Host {
        Host::named("a", Access::Authenticated, Policy::closed())
    }

    pub fn named(name: &str, access: Access, policy: Policy) -> Host {
        let mut incarnation = [0; 16];
        SystemRandom::new().fill(&mut incarnation).unwrap();
        Host::over(
            name,
            Arc::new(Faulty::new(Memory::new(Incarnation(incarnation)))),
            access,
            policy,
        )
    }

    pub fn over(name: &str, store: Arc<Faulty<Memory>>, access: Access, policy: Policy) -> Host {
        let server = Server::new(Options {
            server: name.into(),
            store: store.clone(),
            crypto: Arc::new(Ring::new()),
            random: Box::new(SystemRandom::new()),
            access,
            policy,
        });
        // What clients may do with each other's objects has tests of its own.
        Host {
            server: Arc::new(server.unwrap().with_rights(Unrestricted).with_interop()),
            store,
            clock: Arc::new(AtomicI64::new(START)),
            jumped: Arc::default(),
        }
    }

    pub fn now(&self) -> Now {
        let wall = self.clock.load(Ordering::SeqCst);
        Now {
            tick: Tick((wall - START - self.jumped.load(Ordering::SeqCst)) as u64 * 1000),
            wall: DateTime(wall),
        }
    }

    /// Sets the wall clock, while the monotonic tick goes on as it was.
    pub fn jump(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
        self.jumped.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Lets seconds pass.
    pub fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn client(&self, version: Version) -> Client {
        self.client_named("client", version)
    }

    pub fn client_named(&self, name: &str, version: Version) -> Client {
        Client {
            host: self.clone(),
            identity: identity(name),
            version,
        }
    }

    /// What the store holds under an identifier.
    pub fn record(&self, id: &str) -> Record {
        self.store
            .view::<_, keyferry_store::Error>(|s| Ok(s.by_identifier(id)?.unwrap().1))
            .unwrap()
    }

    /// The object that the store holds under an identifier.
    pub fn object(&self, id: &str) -> Option<Object> {
        self.store
            .view::<_, keyferry_store::Error>(|s| {
                let (number, _) = s.by_identifier(id)?.unwrap();
                Ok(s.whole(number)?.unwrap().1)
            })
            .unwrap()
    }

    pub fn count(&self) -> u64 {
        let mut count = 0;
        self.store
            .read(&mut |s| {
                count = s.count()?;
                Ok(())
            })
            .unwrap();
        count
    }

    pub fn head(&self) -> u64 {
        let mut head = 0;
        self.store
            .read(&mut |s| {
                head = s.head()?.number;
                Ok(())
            })
            .unwrap();
        head
    }
}

pub fn identity(name: &str) -> Identity {
    Identity::new(name).with_certificate([7; 32], [7; 32])
}

/// One client in one version.
#[derive(Clone)]
pub struct Client {
    pub host: Host,
    pub identity: Identity,
    pub version: Version,
}

impl Client {
    pub fn cx(&self) -> keyferry_ttlv::Context {
        context(self.version)
    }

    pub fn raw(&self, bytes: &[u8]) -> ResponseMessage {
        match self
            .host
            .server
            .answer(&self.identity, self.host.now(), &Frame::new(bytes.to_vec()))
        {
            Answer::Reply(frame) | Answer::ReplyAndClose(frame) => {
                let response = ResponseMessage::from_frame(&frame).unwrap();
                assert_eq!(response.header.batch_count as usize, response.batch.len());
                assert_eq!(response.header.time_stamp, self.host.now().wall);
                response
            }
            other => panic!("no answer: {other:?}"),
        }
    }

    pub fn send(&self, message: &RequestMessage) -> ResponseMessage {
        let response = self.raw(&message.to_frame().unwrap());
        assert_eq!(
            response.version().unwrap(),
            message.version().unwrap(),
            "answered in the version of the request"
        );
        response
    }

    pub fn item<P: Payload>(&self, payload: &P) -> RequestItem {
        RequestItem::new(payload, self.cx()).unwrap()
    }

    pub fn batch(&self, items: Vec<RequestItem>) -> ResponseMessage {
        self.send(&RequestMessage::new(self.version, items))
    }

    pub fn call<P: Payload, R: Payload>(&self, payload: &P) -> ItemResult<R> {
        self.call_item(self.item(payload))
    }

    pub fn call_item<R: Payload>(&self, item: RequestItem) -> ItemResult<R> {
        let response = self.batch(vec![item]);
        assert_eq!(response.batch.len(), 1);
        self.read(&response.batch[0])
    }

    pub fn read<R: Payload>(&self, item: &ResponseItem) -> ItemResult<R> {
        if item.is_success() {
            assert_eq!(item.operation, Some(R::OPERATION));
            assert_eq!(item.result_reason, None);
            return Ok(item.payload(self.cx()).unwrap());
        }
        assert_eq!(item.result_status, ResultStatus::OPERATION_FAILED);
        assert!(item.response_payload.is_none(), "a failure has no payload");
        Err(refused(item))
    }

    pub fn create_with(&self, attributes: Attributes) -> ItemResult<String> {
        let request = create_request(attributes);
        let response: CreateResponse = self.call(&request)?;
        assert_eq!(response.object_type, ObjectType::SYMMETRIC_KEY);
        Ok(text(&response.unique_identifier))
    }

    /// An AES key with further attributes.
    pub fn create(&self, more: Attributes) -> String {
        self.create_with(aes(more)).unwrap()
    }

    pub fn register_with(
        &self,
        object_type: ObjectType,
        object: Option<Object>,
        attributes: Attributes,
    ) -> ItemResult<String> {
        let request = RegisterRequest {
            object_type,
            attributes: attributes.into(),
            object,
            protection_storage_masks: None,
            extra: Extra::NONE,
        };
        let response: RegisterResponse = self.call(&request)?;
        Ok(text(&response.unique_identifier))
    }

    pub fn register(&self, object: Object, attributes: Attributes) -> String {
        self.register_with(object.object_type(), Some(object), attributes)
            .unwrap()
    }

    pub fn get(&self, id: &str) -> ItemResult<GetResponse> {
        let request = GetRequest {
            unique_identifier: Some(id.into()),
            key_format_type: None,
            key_wrap_type: None,
            key_compression_type: None,
            key_wrapping_specification: None,
            extra: Extra::NONE,
        };
        self.call(&request)
    }

    pub fn get_attributes(
        &self,
        id: &str,
        references: AttributeReferences,
    ) -> ItemResult<Attributes> {
        let request = GetAttributesRequest {
            unique_identifier: Some(id.into()),
            references,
            extra: Extra::NONE,
        };
        let response: GetAttributesResponse = self.call(&request)?;
        assert_eq!(text(&response.unique_identifier), id);
        Ok(response.attributes)
    }

    /// All of them.
    pub fn attributes(&self, id: &str) -> Attributes {
        self.get_attributes(id, AttributeReferences::default())
            .unwrap()
    }

    pub fn state(&self, id: &str) -> State {
        self.attributes(id).state().unwrap()
    }

    pub fn locate_request(&self, attributes: Attributes) -> LocateRequest {
        LocateRequest {
            maximum_items: None,
            offset_items: None,
            storage_status_mask: None,
            object_group_member: None,
            attributes,
            extra: Extra::NONE,
        }
    }

    pub fn locate_by(&self, request: &LocateRequest) -> ItemResult<(Vec<String>, Option<i32>)> {
        let response: LocateResponse = self.call(request)?;
        Ok((
            response
                .unique_identifiers
                .iter()
                .map(String::from)
                .collect(),
            response.located_items,
        ))
    }

    pub fn locate(&self, attributes: Attributes) -> Vec<String> {
        self.locate_by(&self.locate_request(attributes)).unwrap().0
    }

    pub fn add(&self, id: &str, value: V) -> ItemResult<Attributes> {
        let request = AddAttributeRequest {
            unique_identifier: Some(id.into()),
            attribute: [value].into_iter().collect(),
            extra: Extra::NONE,
        };
        let response: AddAttributeResponse = self.call(&request)?;
        Ok(response.attribute)
    }

    /// Modify in 1.x, by index.
    pub fn modify_at(&self, id: &str, index: Option<i32>, value: V) -> ItemResult<Attributes> {
        let mut attribute = Attributes::new();
        attribute.keep(Attribute { index, value });
        self.modify_request(id, Attributes::new(), attribute)
    }

    /// Modify in 2.x, by current value.
    pub fn modify(&self, id: &str, current: Option<V>, value: V) -> ItemResult<Attributes> {
        self.modify_request(
            id,
            current.into_iter().collect(),
            [value].into_iter().collect(),
        )
    }

    fn modify_request(
        &self,
        id: &str,
        current: Attributes,
        attribute: Attributes,
    ) -> ItemResult<Attributes> {
        let request = ModifyAttributeRequest {
            unique_identifier: Some(id.into()),
            current,
            attribute,
            extra: Extra::NONE,
        };
        let response: ModifyAttributeResponse = self.call(&request)?;
        Ok(response.attribute)
    }

    pub fn delete_at(
        &self,
        id: &str,
        reference: AttributeReference,
        index: Option<i32>,
    ) -> ItemResult<Attributes> {
        self.delete_request(id, Attributes::new(), Some(reference), index)
    }

    pub fn delete(&self, id: &str, current: V) -> ItemResult<Attributes> {
        self.delete_request(id, [current].into_iter().collect(), None, None)
    }

    pub fn delete_all(&self, id: &str, reference: AttributeReference) -> ItemResult<Attributes> {
        self.delete_request(id, Attributes::new(), Some(reference), None)
    }

    fn delete_request(
        &self,
        id: &str,
        current: Attributes,
        reference: Option<AttributeReference>,
        attribute_index: Option<i32>,
    ) -> ItemResult<Attributes> {
        let request = DeleteAttributeRequest {
            unique_identifier: Some(id.into()),
            current,
            references: AttributeReferences(reference.into_iter().collect()),
            attribute_index,
            extra: Extra::NONE,
        };
        let response: DeleteAttributeResponse = self.call(&request)?;
        Ok(response.attribute)
    }

    pub fn activate(&self, id: &str) -> ItemResult {
        let request = ActivateRequest {
            unique_identifier: Some(id.into()),
            extra: Extra::NONE,
        };
        self.call::<_, ActivateResponse>(&request).map(drop)
    }

    pub fn revoke_at(
        &self,
        id: &str,
        code: RevocationReasonCode,
        occurrence: Option<i64>,
    ) -> ItemResult {
        let request = RevokeRequest {
            unique_identifier: Some(id.into()),
            revocation_reason: RevocationReason {
                code,
                message: Some("why".into()),
                extra: Extra::NONE,
            },
            compromise_occurrence_date: occurrence.map(DateTime),
            extra: Extra::NONE,
        };
        self.call::<_, RevokeResponse>(&request).map(drop)
    }

    pub fn revoke(&self, id: &str, code: RevocationReasonCode) -> ItemResult {
        self.revoke_at(id, code, None)
    }

    pub fn destroy(&self, id: &str) -> ItemResult {
        let request = DestroyRequest {
            unique_identifier: Some(id.into()),
            extra: Extra::NONE,
        };
        self.call::<_, DestroyResponse>(&request).map(drop)
    }

    pub fn export(&self, id: &str) -> ItemResult<ExportResponse> {
        let request = ExportRequest {
            unique_identifier: Some(id.into()),
            key_format_type: None,
            key_wrap_type: None,
            key_compression_type: None,
            key_wrapping_specification: None,
            extra: Extra::NONE,
        };
        self.call(&request)
    }

    pub fn import_request(
        &self,
        id: &str,
        object: Option<Object>,
        attributes: Attributes,
    ) -> ImportRequest {
        let object_type = object
            .as_ref()
            .map_or(ObjectType::SYMMETRIC_KEY, Object::object_type);
        ImportRequest {
            unique_identifier: id.into(),
            object_type: (self.version >= Version::V2_0).then_some(object_type),
            replace_existing: None,
            key_wrap_type: None,
            attributes,
            object,
            extra: Extra::NONE,
        }
    }

    pub fn import_by(&self, request: &ImportRequest) -> ItemResult<String> {
        let response: ImportResponse = self.call(request)?;
        Ok(text(&response.unique_identifier))
    }

    pub fn import(
        &self,
        id: &str,
        object: Option<Object>,
        attributes: Attributes,
        replace: bool,
    ) -> ItemResult<String> {
        let mut request = self.import_request(id, object, attributes);
        request.replace_existing = replace.then_some(true);
        self.import_by(&request)
    }

    pub fn put_request(
        &self,
        id: &str,
        object: Option<Object>,
        attributes: Attributes,
    ) -> PutRequest {
        PutRequest {
            unique_identifier: id.into(),
            put_function: PutFunction::NEW,
            replaced_unique_identifier: None,
            object,
            attributes,
            extra: Extra::NONE,
        }
    }

    /// Put is answered without a payload.
    pub fn put(&self, request: &PutRequest) -> ItemResult {
        let response = self.batch(vec![self.item(request)]);
        let item = &response.batch[0];
        if item.is_success() {
            Ok(())
        } else {
            Err(refused(item))
        }
    }
}

pub fn refused(item: &ResponseItem) -> Refused {
    Refused(
        item.result_reason.unwrap(),
        item.result_message
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    )
}

pub fn create_request(attributes: Attributes) -> CreateRequest {
    CreateRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: attributes.into(),
        protection_storage_masks: None,
        extra: Extra::NONE,
    }
}

pub fn text(identifier: &UniqueIdentifier) -> String {
    identifier.as_text().unwrap().to_owned()
}

/// What Create needs for an AES key of 256 bits, and more.
pub fn aes(more: Attributes) -> Attributes {
    let mut attributes = Attributes::new()
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(256))
        .with(V::CryptographicUsageMask(
            CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT,
        ));
    for attribute in more {
        attributes.push(attribute.value);
    }
    attributes
}

pub fn none() -> Attributes {
    Attributes::new()
}

pub fn name(value: &str) -> V {
    V::Name(Name::text(value))
}

pub fn named(value: &str) -> Attributes {
    none().with(name(value))
}

pub fn custom(attribute: &str, value: &str) -> V {
    V::Custom(CustomAttribute::text(attribute, value))
}

pub fn reference(tag: keyferry_ttlv::Tag) -> AttributeReference {
    AttributeReference::Standard(tag)
}

/// A symmetric key of these bytes.
pub fn key(bytes: &[u8]) -> Object {
    Object::symmetric_key(
        CryptographicAlgorithm::AES,
        (bytes.len() * 8) as i32,
        Secret::new(bytes),
    )
}

/// The reason of a failure.
pub fn reason<T: std::fmt::Debug>(answered: ItemResult<T>) -> ResultReason {
    answered.unwrap_err().0
}

/// One reason for 1.x, another for 2.x.
pub fn by(version: Version, one: ResultReason, two: ResultReason) -> ResultReason {
    if version >= Version::V2_0 { two } else { one }
}
