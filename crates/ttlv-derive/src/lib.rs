//! derive(Encode, Decode) for keyferry-ttlv
