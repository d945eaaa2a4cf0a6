//! What a peer can do is found out beforehand, and so is what is lost.

use crate::bulk::drive::*;
use crate::bulk::foreign::foreign;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_s2s::*;
use keyferry_ttlv::Version;
use std::sync::{Arc, Mutex};

fn explore(of: &Host, cut: Cut) -> PeerAbilities {
    let found = Arc::new(Mutex::new(None));
    let into = found.clone();
    let here = master();
    let mut session = Explore::new(move |abilities| *into.lock().unwrap() = Some(abilities));
    drive(&here, of, &mut session, "client", cut, &mut |_, _| {})
        .unwrap()
        .unwrap();
    let mut found = found.lock().unwrap();
    found.take().unwrap()
}

#[test]
fn the_best_way_is_chosen_by_what_the_peer_says() {
    for cut in [Cut::Never, Cut::Before(0), Cut::Behind(0), Cut::Behind(1)] {
        let ours = explore(&replica(), cut);
        assert!(ours.keyferry);
        assert_eq!(ours.versions.len(), 7);
        assert_eq!(ours.push(), Some((TransferMethod::Import, Version::V2_1)));
        assert_eq!(ours.pull(), Some((TransferMethod::Feed, Version::V2_1)));
        assert_eq!(
            ours.version_for(TransferMethod::Export),
            Some(Version::V2_1)
        );
        assert_eq!(
            ours.not_kept(TransferMethod::Import, Version::V1_4),
            Vec::<&str>::new()
        );
    }
    let old = [
        Operation::REGISTER,
        Operation::LOCATE,
        Operation::GET,
        Operation::GET_ATTRIBUTES,
        Operation::PUT,
    ];
    let old = explore(&foreign(&old), Cut::Never);
    assert_eq!(old.push(), Some((TransferMethod::Register, Version::V2_1)));
    assert_eq!(old.pull(), Some((TransferMethod::Get, Version::V2_1)));
    let deaf = explore(&foreign(&[Operation::CREATE]), Cut::Never);
    assert_eq!((deaf.push(), deaf.pull()), (None, None));
    for way in [
        TransferMethod::Import,
        TransferMethod::Put,
        TransferMethod::Register,
        TransferMethod::Feed,
        TransferMethod::Export,
        TransferMethod::Get,
    ] {
        assert_eq!(way.to_string().parse::<TransferMethod>().unwrap(), way);
    }
    assert!("magic".parse::<TransferMethod>().is_err());
}

#[test]
fn what_is_told_to_be_lost_covers_what_is_lost() {
    for version in ALL {
        let (a, t) = (master(), foreign(&[]));
        fill(&a);
        let abilities = PeerAbilities {
            versions: vec![version],
            operations: Vec::new(),
            keyferry: false,
        };
        let told = abilities.not_kept(TransferMethod::Register, version);
        for known in ["Initial Date", "Last Change Date", "Lease Time"] {
            assert!(told.contains(&known), "{version}: {told:?}");
        }
        assert!(!told.contains(&"State") && !told.contains(&"Name"));
        let options = RegisterOptions {
            version,
            dry_run: true,
            ..RegisterOptions::new("t")
        };
        let report = drive(
            &a,
            &t,
            &mut Register::new(options),
            "anyone",
            Cut::Never,
            &mut |_, _| {},
        );
        // It offers nothing, and that is said before anything is sent.
        assert_eq!(report.unwrap().unwrap_err().kind(), ErrorKind::Peer);
        let t = Host::named(
            "t",
            keyferry_server::Access::Authenticated,
            Policy::closed(),
        );
        let options = RegisterOptions {
            version,
            ..RegisterOptions::new("t")
        };
        let report = drive(
            &a,
            &t,
            &mut Register::new(options),
            "anyone",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap()
        .unwrap();
        for lost in report.losses.iter().flat_map(|loss| &loss.attributes) {
            // What is of the moment, or of one object alone, no table can tell: Links to what is not there, indices, values set anew.
            let of_the_moment = [
                "Link",
                "Compromise Date",
                "Compromise Occurrence Date",
                "Revocation Reason",
                "Activation Date",
                "Deactivation Date",
            ];
            // Its Key Format Type is not in 1.0: a field of an attribute, which is told of the object alone.
            let is_a_field = lost == "Digest" && version == Version::V1_0;
            let known = is_a_field
                || told.contains(&lost.as_str())
                || of_the_moment.contains(&lost.as_str())
                || !abilities_know(lost);
            assert!(known, "{version}: {lost} was not foretold");
        }
    }
}

/// Whether an attribute has a row of its own.
fn abilities_know(name: &str) -> bool {
    attribute_rows().iter().any(|row| row.name == name)
}
