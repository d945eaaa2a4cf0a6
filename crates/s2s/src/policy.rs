use crate::selection::Selection;
use keyferry_kmip::spec::{
    BlockCipherMode, EncodingOption, HashingAlgorithm, MaskGenerator, PaddingMethod, WrappingMethod,
};
use keyferry_kmip::{
    CryptographicParameters, DateTime, Failure, Identity, KeyWrappingSpecification, Text,
    UniqueIdentifier, WrappingKeyInformation,
};
use keyferry_store::Record;
use keyferry_ttlv::Extra;
use std::collections::BTreeMap;

/// How key material is wrapped between two servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// The Unique Identifier of the wrapping key here.
    pub here: Text,
    /// That of the same key at the peer; of an RSA pair, that of the other half, or of the same half where a Private Key Link leads on.
    pub there: Text,
    /// How. Under an AES key the Block Cipher Mode NIST Key Wrap (RFC 3394) or AES Key Wrap Padding (RFC 5649); under an RSA key the Padding
    /// Method OAEP with its hashes.
    pub parameters: CryptographicParameters,
    /// The attributes that are wrapped with the key, by name, of those that the object has: a receiver refuses the key with others.
    pub bound: Vec<Text>,
}

impl Wrapping {
    /// By NIST Key Wrap, with the Cryptographic Usage Mask bound.
    pub fn new(here: impl Into<Text>, there: impl Into<Text>) -> Wrapping {
        let parameters = CryptographicParameters {
            block_cipher_mode: Some(BlockCipherMode::NIST_KEY_WRAP),
            ..Default::default()
        };
        Wrapping {
            here: here.into(),
            there: there.into(),
            parameters,
            bound: vec!["Cryptographic Usage Mask".into()],
        }
    }

    /// By RSAES-OAEP with SHA-256, with the Cryptographic Usage Mask bound, in 1.4 and later (the versions before can't say how the mask is
    /// made). Whoever wraps has the receiver's Public Key object, Active and with Wrap Key in its mask; the receiver has the Private Key
    /// object, with Unwrap Key. So `here` is the public half for a push, and the private one for a pull.
    ///
    /// RSA holds little: symmetric keys, and secrets of about 100 bytes under 2048 bits. What is longer fails and is named.
    pub fn oaep(here: impl Into<Text>, there: impl Into<Text>) -> Wrapping {
        let parameters = CryptographicParameters {
            padding_method: Some(PaddingMethod::OAEP),
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            mask_generator: Some(MaskGenerator::MGF1),
            mask_generator_hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            ..Default::default()
        };
        Wrapping {
            parameters,
            ..Wrapping::new(here, there)
        }
    }

    /// What a Get or Export is asked, of the server where the key is called so.
    pub(crate) fn specification(
        &self,
        key: &Text,
        attribute_names: Vec<Text>,
    ) -> KeyWrappingSpecification {
        KeyWrappingSpecification {
            wrapping_method: WrappingMethod::ENCRYPT,
            encryption_key_information: Some(WrappingKeyInformation {
                unique_identifier: UniqueIdentifier::Text(key.clone()),
                cryptographic_parameters: Some(Box::new(self.parameters.clone())),
                extra: Extra::NONE,
            }),
            mac_signature_key_information: None,
            attribute_names,
            encoding_option: Some(EncodingOption::TTLV_ENCODING),
            extra: Extra::NONE,
        }
    }
}

/// What to do about collisions. The same object id is none: it is the same object, and stamps decide (DESIGN: rules 1 and 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collisions {
    /// Another object has the Unique Identifier here.
    pub identifier: OnIdentifier,
    /// Another object has one of the Names here.
    pub name: OnName,
}

/// What to do when another object has the Unique Identifier that a copy should get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnIdentifier {
    /// The copy is refused.
    #[default]
    Fail,
    /// The copy is left out, and that is no failure.
    Skip,
    /// The copy gets a new identifier here.
    Assign,
}

/// What to do when another object has a Name of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnName {
    /// The copy is refused.
    #[default]
    Fail,
    /// The Name is shown by this rule, in which `{name}` stands for the Name and `{server}` for the server id of the object's origin; a
    /// number follows where that is taken too.
    Rename(Text),
    /// The Name is shown as an Alternative Name, which may repeat (KMIP 2.1 §4.2, since 1.2).
    Park,
}

/// What each peer may do here. Closed by default: who is not named may nothing.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    peers: BTreeMap<String, Peer>,
}

/// What one peer may do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// Its server id, which its own objects' stamps carry.
    pub server: Text,
    /// It may send us copies of objects that it issues.
    pub may_send: bool,
    /// It may also send copies of objects that others issue.
    pub may_relay: bool,
    /// What it Exports it gets with what KMIP has no place for, as a copy.
    pub may_pull: bool,
    /// It may follow: it is told of every change of the objects of the agreement that this server issues, whosever client they belong to.
    pub may_follow: bool,
    /// It may follow what others issue, too, of which this server has copies.
    pub may_follow_copies: bool,
    /// It gives this server's own objects back when this one has lost something.
    pub may_give_back: bool,
    /// It may turn a connection that it has opened round (Set Endpoint Role), so that this server asks on it.
    pub may_turn: bool,
    /// This server is its backup: it keeps copies for the day that the other has lost its own.
    pub is_backed_up: bool,
    /// It learns nothing of this server by what it sends: every copy is answered alike, taken or not.
    pub learns_nothing: bool,
    /// How key material is wrapped on its way to it when it follows; what is Sensitive leaves then, too.
    pub wrapping: Option<Wrapping>,
    /// What becomes of its copies where others have their identifiers or Names.
    pub collisions: Collisions,
    /// What the two have agreed on (everything): no other object is taken from it, or given it as a copy.
    pub agreed: Selection,
}

impl Peer {
    /// A peer that may nothing yet.
    pub fn new(server: impl Into<Text>) -> Self {
        Peer {
            server: server.into(),
            may_send: false,
            may_relay: false,
            may_pull: false,
            may_follow: false,
            may_follow_copies: false,
            may_give_back: false,
            may_turn: false,
            is_backed_up: false,
            learns_nothing: false,
            wrapping: None,
            collisions: Collisions::default(),
            agreed: Selection::everything(),
        }
    }

    /// Lets it send copies of its own objects.
    #[must_use]
    pub fn may_send(mut self) -> Self {
        self.may_send = true;
        self
    }

    /// Lets it send copies of others' objects.
    #[must_use]
    pub fn may_relay(mut self) -> Self {
        self.may_relay = true;
        self
    }

    /// Lets it pull copies, where the rights of clients let it read them.
    #[must_use]
    pub fn may_pull(mut self) -> Self {
        self.may_pull = true;
        self
    }

    /// Lets it follow what this server issues.
    #[must_use]
    pub fn may_follow(mut self) -> Self {
        self.may_follow = true;
        self
    }

    /// Lets it follow copies of what others issue, too.
    #[must_use]
    pub fn may_follow_copies(mut self) -> Self {
        self.may_follow_copies = true;
        self
    }

    /// Lets it give back what this server has lost.
    #[must_use]
    pub fn may_give_back(mut self) -> Self {
        self.may_give_back = true;
        self
    }

    /// Tells it nothing of what becomes of its copies: those that are taken are answered as new, and all others are refused alike. The relation
    /// goes one way (DESIGN: rule 16).
    #[must_use]
    pub fn learns_nothing(mut self) -> Self {
        self.learns_nothing = true;
        self
    }

    /// Lets it turn its connections round.
    #[must_use]
    pub fn may_turn(mut self) -> Self {
        self.may_turn = true;
        self
    }

    /// Says that this server is its backup, which clients see as the attribute Backup of its copies.
    #[must_use]
    pub fn backed_up(mut self) -> Self {
        self.is_backed_up = true;
        self
    }

    /// Wraps key material on its way to it.
    #[must_use]
    pub fn wrapping(mut self, wrapping: Wrapping) -> Self {
        self.wrapping = Some(wrapping);
        self
    }

    /// Says what becomes of its copies where others have their identifiers or Names.
    #[must_use]
    pub fn colliding(mut self, collisions: Collisions) -> Self {
        self.collisions = collisions;
        self
    }

    /// Lets only these objects pass, whichever way. Links are not followed for it. A copy that is held already goes on being brought up to date
    /// when its object leaves the agreement, so that nobody works with a key that was revoked since.
    #[must_use]
    pub fn agreed(mut self, selection: Selection) -> Self {
        self.agreed = selection;
        self
    }

    pub(crate) fn has_agreed(&self, record: &Record, now: DateTime) -> Result<bool, Failure> {
        self.agreed.is_match(record, now).map_err(Failure::from)
    }
}

impl Policy {
    /// Nobody may anything.
    pub fn closed() -> Self {
        Policy::default()
    }

    /// Names a peer by the name in its TLS certificate.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, peer: Peer) -> Self {
        self.peers.insert(name.into(), peer);
        self
    }

    /// Whether the server of this id may give back what this one has lost.
    pub(crate) fn gives_back(&self, server: &str) -> bool {
        self.peers
            .values()
            .any(|peer| peer.may_give_back && peer.server == *server)
    }

    /// Whether this server is the backup of the one of this id.
    pub(crate) fn is_backup_of(&self, server: &str) -> bool {
        self.peers
            .values()
            .any(|peer| peer.is_backed_up && peer.server == *server)
    }

    /// What the peer behind a connection may do.
    pub fn peer(&self, identity: &Identity) -> Option<&Peer> {
        self.peers.get(&identity.name)
    }
}
