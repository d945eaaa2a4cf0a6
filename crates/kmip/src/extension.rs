//! Our own tags, all of them, in the range that the standard leaves to vendors (KMIP 2.1 §11.56: 540000 to 54FFFF).
//!
//! They stand in stored records and in the Message Extension of vendor [`VENDOR`]; a foreign peer is never sent one that it must know.

use keyferry_ttlv::Tag;

/// Our Vendor Identification.
pub const VENDOR: &str = "keyferry";

macro_rules! tags {
    ($($id:ident = $number:literal, $name:literal;)*) => {
        $(#[doc = $name] pub const $id: Tag = Tag::new($number);)*
        pub(crate) const ROWS: &[(Tag, &str)] = &[$(($id, $name)),*];
    };
}

tags! {
    OBJECT_ID = 0x544B01, "Object ID";
    ORIGIN_SERVER = 0x544B02, "Origin Server";
    ORIGIN_INSTANCE = 0x544B03, "Origin Instance";
    ORIGIN_IDENTIFIER = 0x544B04, "Origin Identifier";
    STAMP = 0x544B05, "Stamp";
    EPOCH = 0x544B06, "Epoch";
    ISSUER = 0x544B07, "Issuer Server";
    INCARNATION = 0x544B08, "Incarnation";
    SEQUENCE = 0x544B09, "Sequence";
    LINEAGE = 0x544B0A, "Lineage";
    GRANT = 0x544B0B, "Grant";
    RECORD = 0x544B10, "Record";
    LOCAL_IDENTIFIER = 0x544B11, "Local Identifier";
    OWNER = 0x544B12, "Owner";
    OVERLAY = 0x544B15, "Overlay";
    LOCAL_STATE = 0x544B16, "Local State";
    HIDDEN = 0x544B17, "Hidden Attributes";
    LEASE_EXPIRY = 0x544B19, "Lease Expiry";
    USAGE_SLICE = 0x544B1A, "Usage Slice";
    DIGEST_VALUE = 0x544B1B, "Copy Digest";
    DIGEST_PROJECTION = 0x544B1C, "Digest Projection";
    FEED_ENTRY = 0x544B20, "Feed Entry";
    ENTRY_KIND = 0x544B21, "Entry Kind";
    KEY_BEFORE = 0x544B22, "Key Before";
    COPY = 0x544B30, "Copy";
    SESSION = 0x544B31, "Session Number";
    OUTCOME = 0x544B32, "Outcome";
    PROGRESS = 0x544B40, "Progress";
    CURSOR = 0x544B41, "Cursor";
    COUNT_ASKED = 0x544B42, "Count Asked";
    COUNT_CREATED = 0x544B43, "Count Created";
    COUNT_UPDATED = 0x544B44, "Count Updated";
    COUNT_UNCHANGED = 0x544B45, "Count Unchanged";
    COUNT_FAILED = 0x544B46, "Count Failed";
    COUNT_BYTES = 0x544B47, "Count Bytes";
    POSITION_NUMBER = 0x544B48, "Position Number";
    POSITION_COMMIT = 0x544B49, "Position Commit";
    FINISHED = 0x544B4A, "Finished";
    UNTIL = 0x544B4B, "Until";
    PEER_INCARNATION = 0x544B4C, "Peer Incarnation";
    COUNT_LOST = 0x544B4D, "Count Lost";
    COUNT_SKIPPED = 0x544B70, "Count Skipped";
    COUNT_RENAMED = 0x544B71, "Count Renamed";
    SELECTION = 0x544B74, "Selection Digest";
    DRY_RUN = 0x544B75, "Dry Run";
    SEEN = 0x544B76, "Seen Identifiers";
    MAPPED = 0x544B77, "Mapped Identifier";
    IDENTITY = 0x544B50, "Server Identity";
    SERVER_ID = 0x544B51, "Server ID";
    INSTANCE = 0x544B52, "Server Instance";
    RETRY = 0x544B53, "Retry";
    MATERIAL_FINGERPRINT = 0x544B54, "Material Fingerprint";
    FINGERPRINT_KEY = 0x544B55, "Fingerprint Key";
    REIGN = 0x544B80, "Reign";
    WITHDRAWN = 0x544B81, "Withdrawn";
    ACCOUNT = 0x544B82, "Account";
    PLACE = 0x544B83, "Place";
    SLAVE = 0x544B84, "Slave";
    MASTER = 0x544B85, "Master";
    RELATION = 0x544B86, "Relation";
    SELECTED = 0x544B87, "Selection";
    LISTED = 0x544B88, "Listed Identifiers";
    WITH_LINKS = 0x544B89, "With Links";
    CHANGE = 0x544B8A, "Change";
    CHANGE_KIND = 0x544B8B, "Change Kind";
    MATERIAL = 0x544B8C, "Material";
    WRAPPED = 0x544B8D, "Wrapped";
    AFTER = 0x544B8E, "After";
    HEAD = 0x544B8F, "Head";
    AGAIN = 0x544B90, "Again";
    WITHDRAWALS = 0x544B91, "Withdrawals Done";
    MOST_OBJECTS = 0x544B92, "Most Objects";
    MOST_BYTES = 0x544B93, "Most Bytes";
    ANEW = 0x544B94, "Anew";
    AS_AN_ANSWER = 0x544B95, "Answer Kind";
    WHY = 0x544B96, "Why";
    FORK = 0x544B97, "Fork";
    DECISION = 0x544B98, "Decision";
    DECIDED_BY = 0x544B99, "Decided By";
    ATTEMPTS = 0x544B9A, "Attempts";
    DUE = 0x544B9B, "Due";
    PAUSED = 0x544B9C, "Paused";
    SINCE = 0x544B9D, "Since";
    CONTACT = 0x544B9E, "Last Contact";
    SENT = 0x544B9F, "Sent Until";
    ACKNOWLEDGED = 0x544BA0, "Acknowledged";
    COUNT_FORKED = 0x544BA1, "Count Forked";
    COUNT_WITHDRAWN = 0x544BA2, "Count Withdrawn";
    COUNT_RETRIED = 0x544BA3, "Count To Retry";
    ADDRESS = 0x544BA4, "Address";
    TAKING_BACK = 0x544BA5, "Taking Back";
    LAST_PART = 0x544BA6, "Last Part";
    AGREED = 0x544BA7, "Agreement Digest";
    WITHOUT = 0x544BA8, "Without Attributes";
    CHECKING = 0x544BA9, "Checking";
    OFFERS = 0x544BAB, "Offers";
    MORE = 0x544BAC, "More Follows";
    RECEIPT = 0x544BB0, "Receipt";
    PROOF = 0x544BB1, "Proof";
    RECEIPTS = 0x544BB2, "Receipts";
    CLAIM = 0x544BB3, "Claim";
    REFUSED = 0x544BB4, "Refused Copy";
    ALARM = 0x544BB5, "Alarm";
    ALARM_KIND = 0x544BB6, "Alarm Kind";
    DIRECTLY = 0x544BB7, "Directly";
    RELAY_RECEIPT = 0x544BB8, "Relay Receipt";
    TERMS = 0x544BB9, "Terms";
    TERMS_DIFFER = 0x544BBA, "Terms Differ";
    WITH_COPIES = 0x544BBB, "With Copies";
    EMERGENCY_REVOKE = 0x544BBC, "Emergency Revoke";
    COMPROMISED_TWIN = 0x544BBD, "Compromised Twin";
    WALL_TIME = 0x544BBE, "Wall Time";
    BUNDLE_MANIFEST = 0x544B60, "Bundle Manifest";
    BUNDLE_SEGMENT = 0x544B61, "Bundle Segment";
    SEALED_MANIFEST = 0x544B62, "Sealed Bundle Manifest";
    SEALED_SEGMENT = 0x544B63, "Sealed Bundle Segment";
    SIGNATURE = 0x544B64, "Signature";
    SIGNER = 0x544B65, "Signer";
    FORMAT_VERSION = 0x544B66, "Format Version";
    SENDER = 0x544B67, "Sender Server";
    SENDER_INSTANCE = 0x544B68, "Sender Instance";
    RECIPIENT = 0x544B69, "Recipient Server";
    OBJECT_COUNT = 0x544B6A, "Object Count";
    CREATED = 0x544B6B, "Created";
    EXPIRES = 0x544B6C, "Expires";
    SEGMENT_NUMBER = 0x544B6D, "Segment Number";
    RUNNING_HASH = 0x544B6E, "Running Hash";
    LAST_SEGMENT = 0x544B6F, "Last Segment";
    COUNT_TOTAL = 0x544BD0, "Count Total";
    PLAN = 0x544BD1, "Plan";
    PLAN_NAME = 0x544BD2, "Plan Name";
    PLAN_STRATEGY = 0x544BD3, "Plan Strategy";
    PLAN_VERSION = 0x544BD4, "Plan Protocol Version";
    PLANNED = 0x544BD5, "Planned Object";
    HELD = 0x544BD6, "Held Object";
    EXPECTED = 0x544BD7, "Expected Object";
    PLAN_END = 0x544BD8, "Plan End";
    BEGUN = 0x544BD9, "Begun Change";
    SAID = 0x544BDA, "Said Attributes";
    FOREIGN_MASTER = 0x544BE0, "Foreign Master";
    FOREIGN_SLAVE = 0x544BE1, "Foreign Slave";
    PASS = 0x544BE2, "Pass";
    WINDOW_FROM = 0x544BE3, "Window From";
    PASS_HEAD = 0x544BE4, "Head At Start";
    NEWEST = 0x544BE5, "Newest Date";
    OVERLAP = 0x544BE6, "Overlap";
    FULL_EVERY = 0x544BE7, "Full Pass Every";
    FULL_AFTER = 0x544BE8, "Full Pass After";
    RUNS = 0x544BE9, "Runs";
    LOCATES_DATES = 0x544BEA, "Locates Dates";
    LAST_PASS = 0x544BEB, "Last Pass";
    LAST_FULL_PASS = 0x544BEC, "Last Full Pass";
    COUNT_MISSING = 0x544BED, "Count Missing";
    BY_OPERATION = 0x544BEE, "By Operation";
    MAY_DESTROY = 0x544BEF, "May Destroy";
    DESTROYS_LEFT = 0x544BF0, "Destroys What Left";
    LEFT = 0x544BF1, "Left";
    WITHHELD = 0x544BF2, "Withheld Object";
    COUNT_WITHHELD = 0x544BF3, "Count Withheld";
    ENDED = 0x544BF4, "Ended";
    KEEPS = 0x544BF5, "Keeps";
    SET_PROOF = 0x544BF6, "Set Proof";
    PROOF_KEY = 0x544BF7, "Proof Key";
    SKETCH = 0x544BF8, "Sketch";
    SKETCH_CELLS = 0x544BF9, "Sketch Cells";
    SKETCH_FROM = 0x544BC2, "Sketch From";
    WANTED = 0x544BFA, "Wanted Object";
    DIFFERING = 0x544BFB, "Differing Copy";
    COUNT_DIFFERING = 0x544BFC, "Count Differing";
    COUNT_REPAIRED = 0x544BFD, "Count Repaired";
    PROVED = 0x544BFE, "Proved";
    UNCOMPARED = 0x544BFF, "Uncompared";
    MENDS = 0x544C00, "Mends";
    ROTTEN = 0x544BC0, "Rotten Record";
    SCRUB = 0x544BC1, "Scrub";
    BY_ISSUER = 0x544BC3, "Withdrawn By Its Issuer";
}

/// The number of [`SEEN`] inside a Selection, where it says that the selection is a list: both are on disk and on the wire already.
pub const IS_LISTED: Tag = SEEN;

/// The name of one of our tags.
pub(crate) fn tag_name(tag: Tag) -> Option<&'static str> {
    ROWS.iter()
        .find(|(row, _)| *row == tag)
        .map(|(_, name)| *name)
}
