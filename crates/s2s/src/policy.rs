//! The policy of a server: what each peer may do here, how key material is wrapped on its way, and what becomes of collisions.

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::peer_name::{Fit, PeerName};
use crate::selection::Selection;
use crate::transport_key::{goes_under, is_transport_key};
use keyferry_kmip::spec::{
    BlockCipherMode, EncodingOption, HashingAlgorithm, MaskGenerator, PaddingMethod, WrappingMethod,
};
use keyferry_kmip::{
    CryptographicParameters, DateTime, Failure, Identity, KeyWrappingSpecification, Text,
    UniqueIdentifier, WrappingKeyInformation,
};
use keyferry_store::Record;
use keyferry_ttlv::Extra;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// The way in which key material is wrapped between two servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrapping {
    /// The Unique Identifier of the wrapping key at this server.
    pub here: Text,
    /// The Unique Identifier of the same key at the peer. Of an RSA pair, it is that of the other half, or of the same half if that has a
    /// Private Key Link at the peer.
    pub there: Text,
    /// The algorithm. Under an AES key it is the Block Cipher Mode NIST Key Wrap (RFC 3394) or AES Key Wrap Padding (RFC 5649), under an RSA key
    /// the Padding Method OAEP with its hashes.
    pub parameters: CryptographicParameters,
    /// The attributes that are wrapped together with the key, by name, if the object has them. A receiver refuses the key with other values of
    /// them.
    pub bound: Vec<Text>,
}

impl Wrapping {
    /// Wrapping by NIST Key Wrap, together with the Cryptographic Usage Mask.
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

    /// Wrapping by RSAES-OAEP with SHA-256, together with the Cryptographic Usage Mask, in 1.4 and later (earlier versions can't say how the
    /// mask of OAEP is made). The sender has the receiver's Public Key object, which is Active and has Wrap Key in its mask; the receiver has
    /// the Private Key object with Unwrap Key. So `here` is the public half for a push, and the private half for a pull.
    ///
    /// RSA wraps little: symmetric keys, and secrets of about 100 bytes under 2048 bits. So a keyferry server that follows, takes a push by
    /// Import or opens a bundle first gets a transport key under it, a fresh AES key, and under that one everything else, of any length
    /// ([rule D](crate::design#rule-d)); [`renew_transport_key`](crate::renew_transport_key) makes another one. Where no transport key goes
    /// (to a foreign server, in a pull, and where the receiver does not take it) a longer object fails and is reported.
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

    /// Whether it is under an RSA key.
    pub(crate) fn is_rsa(&self) -> bool {
        self.parameters.padding_method == Some(PaddingMethod::OAEP)
    }

    /// The Key Wrapping Specification of a Get or Export at the server where the wrapping key has this identifier.
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

/// What becomes of a copy that collides with another object here. A copy with the same object id does not collide: it is the same object, and
/// the stamps decide ([rules 1](crate::design#rule-1) and [3](crate::design#rule-3)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collisions {
    /// What to do when another object has the Unique Identifier here.
    pub identifier: OnIdentifier,
    /// What to do when another object has one of the Names here.
    pub name: OnName,
}

/// What to do when another object has the Unique Identifier that a copy should get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnIdentifier {
    /// The copy is refused.
    #[default]
    Fail,
    /// The copy is skipped, which is not a failure.
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
    /// Clients see a Name made by this pattern, in which `{name}` stands for the Name and `{server}` for the server id of the object's origin.
    /// A number is added if that Name exists, too.
    Rename(Text),
    /// Clients see the Name as an Alternative Name, of which several objects may have the same (KMIP 2.1 §4.2, since 1.2).
    Park,
}

/// A set of servers, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Servers {
    /// No server.
    #[default]
    None,
    /// These servers.
    Named(BTreeSet<Text>),
    /// Every server.
    All,
}

impl Servers {
    /// Whether the server of this id belongs to it.
    pub fn has(&self, server: &str) -> bool {
        match self {
            Servers::None => false,
            Servers::Named(named) => named.iter().any(|named| *named == *server),
            Servers::All => true,
        }
    }

    /// The servers that it names.
    fn listed(&self) -> Vec<&Text> {
        match self {
            Servers::Named(named) => named.iter().collect(),
            Servers::None | Servers::All => Vec::new(),
        }
    }

    fn add<T: Into<Text>>(&mut self, servers: impl IntoIterator<Item = T>) {
        let more = servers.into_iter().map(Into::into);
        match self {
            Servers::None => *self = Servers::Named(more.collect()),
            Servers::Named(named) => named.extend(more),
            Servers::All => {}
        }
    }
}

/// What each peer may do here. By default it is closed: a peer that it does not name may do nothing.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    peers: BTreeMap<PeerName, Peer>,
    /// How much this server keeps of what peers send.
    pub limits: Limits,
}

/// A peer, and what it may do here.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// Its server id, which the stamps of its own objects carry.
    pub server: Text,
    /// Whether it may send copies of objects that it issues.
    pub may_send: bool,
    /// Whose objects it may relay: it may send copies of what these servers issue, and is believed what it says of them until their issuer is
    /// met ([rule A](crate::design#rule-a)).
    pub relays: Servers,
    /// The foreign servers that it may observe: it may send copies that have their origin there, of which it is the issuer.
    pub observes: Servers,
    /// Whether it is a foreign server: what it sends by Put is an object of this server from then on, and no copy. A keyferry server sends copies
    /// alone.
    pub is_foreign: bool,
    /// Whether it may pull copies: then the answer to its Export also carries the parts of a copy that KMIP has no place for.
    pub may_pull: bool,
    /// Whether it may follow: then it gets every change of the agreed objects that this server issues, whichever client owns them.
    pub may_follow: bool,
    /// Whether it may also follow the copies here of objects that other servers issue.
    pub may_follow_copies: bool,
    /// Whether it may give this server's own objects back after this server was restored.
    pub may_give_back: bool,
    /// Whether it may revoke what it follows here, for a compromise alone: what its clients revoke in an emergency becomes a change here, or travels on
    /// to the issuer ([rule 5](crate::design#rule-5)).
    pub may_revoke: bool,
    /// Whether its wall clock confirms this server's, when that has jumped ([rule 7](crate::design#rule-7)).
    pub may_confirm_time: bool,
    /// Whether it may turn round a connection that it has opened (Set Endpoint Role), so that this server sends requests on it.
    pub may_turn: bool,
    /// Whether it is a client of this server besides, if the server's access rules admit it by its TLS name ([rule F](crate::design#rule-f)).
    pub is_client: bool,
    /// Whether this server is its backup, which keeps copies in case the peer loses its own.
    pub is_backed_up: bool,
    /// After how many seconds in which nobody has kept them true copies of its objects are withheld from clients; `None` if they are served for ever.
    pub unkept_seconds: Option<i64>,
    /// Whether it learns nothing about this server from the answers to its copies: every copy that is refused is answered alike.
    pub learns_nothing: bool,
    /// How key material is wrapped on its way to the peer when it follows. Only with wrapping, Sensitive objects are sent.
    pub wrapping: Option<Wrapping>,
    /// The keys here, by Unique Identifier, that unwrap what comes from the peer, besides the one that wraps for it
    /// ([rule D](crate::design#rule-d)). Of an RSA pair it is the private half; the transport keys that the peer sends under it then unwrap, too.
    pub unwraps: BTreeSet<Text>,
    /// The clients here that own copies of what clients of the peer own there: for each name there the name here
    /// ([rule G](crate::design#rule-g)). A copy whose owner is not named belongs to nobody here.
    pub owners: BTreeMap<Text, Text>,
    /// What becomes of its copies if other objects here have their identifiers or Names.
    pub collisions: Collisions,
    /// The objects that both servers have agreed on (all by default). No other object is accepted from it, or sent to it as a copy.
    pub agreed: Selection,
}

impl Peer {
    /// A peer that may do nothing yet.
    pub fn new(server: impl Into<Text>) -> Self {
        Peer {
            server: server.into(),
            may_send: false,
            relays: Servers::None,
            observes: Servers::None,
            is_foreign: false,
            may_pull: false,
            may_follow: false,
            may_follow_copies: false,
            may_give_back: false,
            may_revoke: false,
            may_confirm_time: false,
            may_turn: false,
            is_client: false,
            is_backed_up: false,
            unkept_seconds: None,
            learns_nothing: false,
            wrapping: None,
            unwraps: BTreeSet::new(),
            owners: BTreeMap::new(),
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

    /// Lets it send copies of objects that other servers issue, whichever these are. [`may_relay_for`](Peer::may_relay_for) trusts it less.
    #[must_use]
    pub fn may_relay(mut self) -> Self {
        self.relays = Servers::All;
        self
    }

    /// Lets it send copies of objects that these servers issue.
    #[must_use]
    pub fn may_relay_for<T: Into<Text>>(mut self, servers: impl IntoIterator<Item = T>) -> Self {
        self.relays.add(servers);
        self
    }

    /// Lets it observe these foreign servers: it may send copies of their objects, which it issues itself.
    #[must_use]
    pub fn may_observe<T: Into<Text>>(mut self, servers: impl IntoIterator<Item = T>) -> Self {
        self.observes.add(servers);
        self
    }

    /// Makes it a foreign server, whose Put and Notify need no Message Extension of ours.
    #[must_use]
    pub fn foreign(mut self) -> Self {
        self.is_foreign = true;
        self
    }

    /// Lets a key here, by its Unique Identifier, unwrap what comes from the peer.
    #[must_use]
    pub fn unwrapping(mut self, key: impl Into<Text>) -> Self {
        self.unwraps.insert(key.into());
        self
    }

    /// Lets a client here own copies of what a client of the peer owns there.
    #[must_use]
    pub fn owning(mut self, there: impl Into<Text>, here: impl Into<Text>) -> Self {
        self.owners.insert(there.into(), here.into());
        self
    }

    /// Lets it pull copies of the objects that it may read as a client, so it has to be one, too ([`also_client`](Peer::also_client)).
    #[must_use]
    pub fn may_pull(mut self) -> Self {
        self.may_pull = true;
        self
    }

    /// Lets it follow the objects that this server issues.
    #[must_use]
    pub fn may_follow(mut self) -> Self {
        self.may_follow = true;
        self
    }

    /// Lets it follow the copies of other servers' objects, too.
    #[must_use]
    pub fn may_follow_copies(mut self) -> Self {
        self.may_follow_copies = true;
        self
    }

    /// Lets it give back objects that this server has lost.
    #[must_use]
    pub fn may_give_back(mut self) -> Self {
        self.may_give_back = true;
        self
    }

    /// Lets it revoke what it follows here, with the Revocation Reasons Key Compromise and CA Compromise alone.
    #[must_use]
    pub fn may_revoke(mut self) -> Self {
        self.may_revoke = true;
        self
    }

    /// Lets its wall clock confirm this server's. Give it to a peer whose time comes from elsewhere.
    #[must_use]
    pub fn may_confirm_time(mut self) -> Self {
        self.may_confirm_time = true;
        self
    }

    /// Withholds copies of its objects from clients when nobody has kept them true for so many seconds ([`UnkeptCopy`](crate::UnkeptCopy)): neither
    /// Get nor Export has their material then. Without this they are served, however old they are ([rule 17](crate::design#rule-17)).
    #[must_use]
    pub fn withholding_unkept(mut self, seconds: u32) -> Self {
        self.unkept_seconds = Some(i64::from(seconds));
        self
    }

    /// Hides from it what becomes of its copies: accepted copies are answered as new, and all others are refused alike. The relation
    /// has one direction ([rule 16](crate::design#rule-16)).
    #[must_use]
    pub fn learns_nothing(mut self) -> Self {
        self.learns_nothing = true;
        self
    }

    /// Lets it turn round its connections.
    #[must_use]
    pub fn may_turn(mut self) -> Self {
        self.may_turn = true;
        self
    }

    /// Makes it a client of this server besides, under its TLS name: it then has that client's objects and rights, if the server's access rules
    /// admit the client. Without this, what the policy knows as a peer is never a client, whoever is admitted ([rule F](crate::design#rule-f)).
    /// What it puts still belongs to the peer, and not to the client.
    #[must_use]
    pub fn also_client(mut self) -> Self {
        self.is_client = true;
        self
    }

    /// Makes this server its backup, which clients see as the attribute Backup of its copies.
    #[must_use]
    pub fn backed_up(mut self) -> Self {
        self.is_backed_up = true;
        self
    }

    /// Wraps key material on its way to the peer.
    #[must_use]
    pub fn wrapping(mut self, wrapping: Wrapping) -> Self {
        self.wrapping = Some(wrapping);
        self
    }

    /// Sets what becomes of its copies if other objects here have their identifiers or Names.
    #[must_use]
    pub fn colliding(mut self, collisions: Collisions) -> Self {
        self.collisions = collisions;
        self
    }

    /// Limits both directions to these objects. Links do not extend the agreement. A copy that is held already is still brought up to date
    /// after its object has left the agreement, so that nobody works with a key that was revoked since.
    #[must_use]
    pub fn agreed(mut self, selection: Selection) -> Self {
        self.agreed = selection;
        self
    }

    /// The digest of what it may say here: of which issuers, of which foreign servers, and what both sides have agreed on.
    pub(crate) fn trust(&self) -> Result<Vec<u8>, Failure> {
        let mut hash = Sha256::new();
        for servers in [&self.relays, &self.observes] {
            hash.update(servers.listed().len().to_be_bytes());
            for server in servers.listed() {
                hash.update(server.len().to_be_bytes());
                hash.update(server.as_bytes());
            }
            hash.update([u8::from(*servers == Servers::All)]);
        }
        hash.update(self.agreed.digest()?.unwrap_or_default());
        Ok(hash.finalize().to_vec())
    }

    /// Whether it may say what the server of this id says of its objects.
    pub(crate) fn speaks_for(&self, issuer: &str) -> bool {
        self.server == *issuer || self.relays.has(issuer)
    }

    /// Whether the agreement names this key as one that unwraps what comes from the peer.
    pub(crate) fn unwraps_by(&self, key: &str) -> bool {
        self.unwraps.iter().any(|unwraps| *unwraps == *key)
            || self
                .wrapping
                .as_ref()
                .is_some_and(|wrapping| wrapping.here == *key)
    }

    /// Whether the agreement covers an object. A transport key is always of it between its issuer and the server that has the RSA key, and of no
    /// other one.
    pub(crate) fn has_agreed(&self, record: &Record, now: DateTime) -> Result<bool, Failure> {
        if is_transport_key(record) {
            let goes =
                |under: &Wrapping| under.is_rsa() && goes_under(record, &under.here, &under.there);
            let is_theirs = record.stamp.issuer == self.server;
            return Ok(is_theirs || self.wrapping.as_ref().is_some_and(goes));
        }
        self.agreed.is_match(record, now).map_err(Failure::from)
    }
}

impl Policy {
    /// A policy by which no peer may do anything.
    pub fn closed() -> Self {
        Policy::default()
    }

    /// Adds a peer, under the name in its TLS certificate, or under a [`PeerName`]. It takes the place of what was added under the same one.
    ///
    /// If several entries fit a certificate, the more specific counts: name and key before key, key before name. Where two fit equally well,
    /// neither counts, and [`check`](Policy::check) refuses the policy.
    #[must_use]
    pub fn with(mut self, name: impl Into<PeerName>, peer: Peer) -> Self {
        self.peers.insert(name.into(), peer);
        self
    }

    /// Adds a peer, under the SHA-256 of its public keys ([`Identity::public_key`]): a renewed certificate of the same key is the peer's, and
    /// one of the same name with another key is not.
    #[must_use]
    pub fn with_keys(self, keys: impl IntoIterator<Item = [u8; 32]>, peer: Peer) -> Self {
        self.with(PeerName::keyed(keys), peer)
    }

    /// Checks that each entry can fit a certificate, and that no certificate fits two entries equally well. A server checks its policy when it
    /// is made; an application without one should do so itself.
    ///
    /// # Errors
    /// [`ErrorKind::Policy`], which names the entries.
    pub fn check(&self) -> Result<()> {
        for (place, name) in self.peers.keys().enumerate() {
            if let Some(reason) = name.reason_unusable() {
                let context = format_args!("the policy names a peer {name}: {reason}");
                return Err(Error::new(ErrorKind::Policy, context));
            }
            let mut later = self.peers.keys().skip(place + 1);
            if let Some(other) = later.find(|other| name.is_ambiguous_with(other)) {
                let context =
                    format_args!("one certificate could be two peers: {name}, and {other}");
                return Err(Error::new(ErrorKind::Policy, context));
            }
        }
        Ok(())
    }

    /// The same policy with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The servers, by their ids, that may give back objects which this one has lost.
    pub(crate) fn givers_back(&self, this: &str) -> BTreeSet<&Text> {
        let may = |peer: &&Peer| peer.may_give_back && *peer.server != *this;
        let givers = self.peers.values().filter(may);
        givers.map(|peer| &peer.server).collect()
    }

    /// The peers that are the server of this id.
    pub(crate) fn peers_of(&self, server: &str) -> impl Iterator<Item = &Peer> {
        self.peers
            .values()
            .filter(move |peer| peer.server == *server)
    }

    /// Whether this server is the backup of the one of this id.
    pub(crate) fn is_backup_of(&self, server: &str) -> bool {
        self.peers
            .values()
            .any(|peer| peer.is_backed_up && peer.server == *server)
    }

    /// The peer with this TLS identity; `None` if it is no peer, or could be two.
    pub fn peer(&self, identity: &Identity) -> Option<&Peer> {
        let mut best: Option<(Fit, Option<&Peer>)> = None;
        for (name, peer) in &self.peers {
            let Some(fit) = name.fits(identity) else {
                continue;
            };
            match &mut best {
                Some((found, one)) if *found == fit => *one = None,
                Some((found, _)) if *found > fit => {}
                _ => best = Some((fit, Some(peer))),
            }
        }
        best.and_then(|(_, peer)| peer)
    }

    /// Whether an identity fits an entry of this policy, and so is never taken for a client, except where its peer is
    /// [one besides](Peer::also_client).
    pub fn knows(&self, identity: &Identity) -> bool {
        self.peers.keys().any(|name| name.fits(identity).is_some())
    }

    /// Whether an entry has this name, whatever keys it asks for. A login must not give such a name.
    pub fn has_name(&self, name: &str) -> bool {
        self.peers.keys().any(|peer| peer.is_called(name))
    }
}
