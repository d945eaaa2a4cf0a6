//! A secret, and whether a text shows it.

/// A secret that no other text holds, and all the ways in which it might be printed.
pub const SECRET: &[u8; 16] = b"\xDE\xAD\xBE\xEFS3cr3tM4ter!";

pub fn shows_it(text: &str) -> bool {
    let lower = text.to_lowercase();
    let hex: String = SECRET.iter().map(|b| format!("{b:02x}")).collect();
    let list = format!("{:?}", &SECRET[..4]);
    let list = list.trim_matches(['[', ']']);
    lower.contains(&hex)
        || lower.contains(&hex[8..20])
        || text.contains(list)
        || text.contains("S3cr3t")
}
