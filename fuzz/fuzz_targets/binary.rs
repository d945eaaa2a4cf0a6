//! Any bytes: the strict check, and every item of what it lets pass.
#![no_main]
use keyferry_kmip::context;
use keyferry_ttlv::{Decode, Item, Reader, Type, Value, Version};

fn walk<'a>(item: Item<'a>, r: &Reader<'a>) {
    assert!(
        Value::decode(item, r).is_ok(),
        "what was checked can be read"
    );
    let Ok(mut children) = r.children(item) else {
        return assert_ne!(item.ty(), Type::Structure);
    };
    while let Some(child) = children.next(r).expect("what was checked can be read") {
        walk(child, r);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let r = Reader::new(data, context(Version::V2_1));
    let Ok(item) = Item::parse(data) else { return };
    if r.check(item).is_ok() {
        walk(item, &r);
    }
});
