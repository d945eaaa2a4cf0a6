"""Drives a KMIP server with PyKMIP's own client.

Called as: client.py PORT CA CERTIFICATE KEY. Prints one line for each version and ends with status 1 at the first surprise.
"""

import ssl
import sys

from cryptography.hazmat.primitives import keywrap

from kmip.core import attributes as kmip_attributes, enums, objects as cobjects, primitives
from kmip.core.factories.attribute_values import AttributeValueFactory
from kmip.core.factories.attributes import AttributeFactory
from kmip.core.messages import payloads
from kmip.core.messages.contents import ProtocolVersion
from kmip.pie import client, exceptions, objects
from kmip.core.exceptions import OperationFailure, ReadValueError

PORT, CA, CERTIFICATE, KEY = sys.argv[1:5]
FACTORY, VALUES = AttributeFactory(), AttributeValueFactory()
A = enums.AttributeType
V = enums.KMIPVersion
FAILED = (exceptions.KmipOperationFailure, OperationFailure)

VERSIONS = [V.KMIP_1_0, V.KMIP_1_1, V.KMIP_1_2, V.KMIP_1_3, V.KMIP_1_4, V.KMIP_2_0]


def connect(version):
    return client.ProxyKmipClient(
        hostname="127.0.0.1",
        port=int(PORT),
        cert=CERTIFICATE,
        key=KEY,
        ca=CA,
        ssl_version="PROTOCOL_TLSv1_2",
        kmip_version=version,
    )


def refused(reasons, call, *arguments, **named):
    """The call fails with one of these Result Reasons."""
    try:
        call(*arguments, **named)
    except FAILED as failure:
        assert failure.reason in reasons, "%s instead of %s" % (failure, reasons)
        return
    raise AssertionError("%s%s was not refused" % (call.__name__, arguments))


def names_of(attributes):
    return [a.attribute_name.value for a in attributes]


def value(attributes, name):
    return [a.attribute_value for a in attributes if a.attribute_name.value == name]


def state(c, uid):
    _, attributes = c.get_attributes(uid, ["State"])
    return value(attributes, "State")[0].value


def locate(c, name, kind=A.NAME, **more):
    return c.locate(attributes=[FACTORY.create_attribute(kind, name)], **more)


def wrong_state(version):
    return [enums.ResultReason.PERMISSION_DENIED] if version < V.KMIP_2_0 else [enums.ResultReason.WRONG_KEY_LIFECYCLE_STATE]


def not_found(version):
    return [enums.ResultReason.ITEM_NOT_FOUND] if version < V.KMIP_2_0 else [enums.ResultReason.OBJECT_NOT_FOUND]


def gone(version):
    return [enums.ResultReason.ITEM_NOT_FOUND] if version < V.KMIP_2_0 else [enums.ResultReason.OBJECT_DESTROYED]


def introductions(c, version):
    query = c.proxy.query(
        query_functions=[
            enums.QueryFunction.QUERY_OPERATIONS,
            enums.QueryFunction.QUERY_OBJECTS,
            enums.QueryFunction.QUERY_SERVER_INFORMATION,
        ]
    )
    assert query.result_status.value == enums.ResultStatus.SUCCESS, query.result_message
    assert enums.Operation.CREATE in query.operations, query.operations
    assert enums.ObjectType.SYMMETRIC_KEY in query.object_types, query.object_types
    assert query.vendor_identification == "keyferry", query.vendor_identification
    if version >= V.KMIP_1_1:
        told = c.proxy.discover_versions()
        assert told.result_status.value == enums.ResultStatus.SUCCESS, told.result_message
        spoken = [(v.major, v.minor) for v in told.protocol_versions]
        assert spoken == [(2, 1), (2, 0), (1, 4), (1, 3), (1, 2), (1, 1), (1, 0)], spoken
        told = c.proxy.discover_versions(protocol_versions=[ProtocolVersion(1, 2), ProtocolVersion(7, 0)])
        assert [(v.major, v.minor) for v in told.protocol_versions] == [(1, 2)]


def life(c, version):
    """One key from Create to Destroy."""
    name = "life %s" % version.name
    masks = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]
    uid = c.create(enums.CryptographicAlgorithm.AES, 256, name=name, cryptographic_usage_mask=masks)
    assert locate(c, name) == [uid]
    key = c.get(uid)
    assert isinstance(key, objects.SymmetricKey) and len(key.value) == 32 and key.cryptographic_length == 256
    same = enums.ResultReason.INVALID_FIELD if version < V.KMIP_2_0 else enums.ResultReason.NON_UNIQUE_NAME_ATTRIBUTE
    refused([same], c.create, enums.CryptographicAlgorithm.AES, 256, name=name)

    listed = c.get_attribute_list(uid)
    for expected in ["Unique Identifier", "Object Type", "Name", "Cryptographic Algorithm", "Cryptographic Length", "State", "Digest"]:
        assert expected in listed, listed
    _, attributes = c.get_attributes(uid, ["Name", "Cryptographic Algorithm", "Cryptographic Length", "Cryptographic Usage Mask", "State"])
    assert sorted(names_of(attributes)) == [
        "Cryptographic Algorithm", "Cryptographic Length", "Cryptographic Usage Mask", "Name", "State",
    ], names_of(attributes)
    assert value(attributes, "Cryptographic Length")[0].value == 256
    assert value(attributes, "Name")[0].name_value.value == name
    # PyKMIP can't read a Digest of 1.0, which has no Key Format Type yet, nor what came with 1.3: Random Number Generator.
    if V.KMIP_1_0 < version < V.KMIP_1_3:
        _, everything = c.get_attributes(uid)
        assert set(listed) == set(names_of(everything)), (listed, names_of(everything))

    assert state(c, uid) == enums.State.PRE_ACTIVE
    c.activate(uid)
    assert state(c, uid) == enums.State.ACTIVE
    refused(wrong_state(version), c.activate, uid)
    refused(wrong_state(version), c.destroy, uid)
    c.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid, revocation_message="over")
    assert state(c, uid) == enums.State.DEACTIVATED
    c.revoke(enums.RevocationReasonCode.KEY_COMPROMISE, uid, compromise_occurrence_date=1600000000)
    assert state(c, uid) == enums.State.COMPROMISED
    c.destroy(uid)
    refused(gone(version), c.get, uid)
    assert locate(c, name) == []
    for call in [c.get, c.destroy, c.activate, c.get_attribute_list]:
        refused(not_found(version), call, "nothing of that name")


def kinds(c, version):
    """Every kind of object that PyKMIP can register."""
    with open(CERTIFICATE) as file:
        certificate = ssl.PEM_cert_to_DER_cert(file.read())
    label = version.name
    sign = [enums.CryptographicUsageMask.SIGN]
    verify = [enums.CryptographicUsageMask.VERIFY]
    rsa, kft = enums.CryptographicAlgorithm.RSA, enums.KeyFormatType
    made = [
        objects.SymmetricKey(
            enums.CryptographicAlgorithm.AES, 128, bytes(range(16)), masks=sign, name="symmetric " + label,
            app_specific_info=[{"application_namespace": "ns", "application_data": "data " + label}],
        ),
        objects.SecretData(b"open sesame", enums.SecretDataType.PASSWORD, masks=verify, name="secret " + label),
        objects.OpaqueObject(b"whatever", enums.OpaqueDataType.NONE, name="opaque " + label),
        objects.X509Certificate(certificate, masks=verify, name="certificate " + label),
        objects.PublicKey(rsa, 2048, b"\x30\x03\x02\x01\x05", kft.PKCS_1, masks=verify, name="public " + label),
        objects.PrivateKey(rsa, 2048, b"\x30\x03\x02\x01\x07", kft.PKCS_8, masks=sign, name="private " + label),
        objects.SplitKey(
            cryptographic_algorithm=enums.CryptographicAlgorithm.AES, cryptographic_length=128, key_value=b"\x66" * 16,
            cryptographic_usage_masks=sign, name="split " + label, split_key_parts=4, key_part_identifier=1,
            split_key_threshold=2, split_key_method=enums.SplitKeyMethod.XOR,
        ),
    ]
    wrapped = objects.SymmetricKey(
        enums.CryptographicAlgorithm.AES, 128, b"\xA5" * 24, masks=sign, name="wrapped " + label,
        key_wrapping_data={
            "wrapping_method": enums.WrappingMethod.ENCRYPT,
            "encryption_key_information": {
                "unique_identifier": "kek",
                "cryptographic_parameters": {"block_cipher_mode": enums.BlockCipherMode.NIST_KEY_WRAP},
            },
            "encoding_option": enums.EncodingOption.NO_ENCODING,
        },
    )
    # The Encoding Option is of 1.1.
    if version >= V.KMIP_1_1:
        made.append(wrapped)
    uids = []
    for one in made:
        uid = c.register(one)
        got = c.get(uid)
        assert type(got) is type(one) and got.value == one.value, (one, got)
        for field in ["cryptographic_length", "key_format_type", "certificate_type", "data_type", "opaque_type", "split_key_parts"]:
            assert getattr(got, field, None) == getattr(one, field, None), (field, one, got)
        if getattr(one, "key_wrapping_data", None):
            assert got.key_wrapping_data["wrapping_method"] == enums.WrappingMethod.ENCRYPT
        assert locate(c, one.names[0]) == [uid]
        uids.append(uid)
    for one, uid in zip(made, uids):
        found = locate(c, one.object_type, A.OBJECT_TYPE)
        assert uid in found, (one, found)
    newest = c.locate(maximum_items=3)
    assert newest == list(reversed(uids))[:3], "newest first"
    if version >= V.KMIP_1_3:
        assert c.locate(maximum_items=2, offset_items=1) == list(reversed(uids))[1:3]
    pre_active = locate(c, enums.State.PRE_ACTIVE, A.STATE)
    assert set(uids) <= set(pre_active)
    for uid in uids:
        c.destroy(uid)


def edits(c, version):
    """Modify and Delete Attribute; PyKMIP has no Add."""
    first, second = "edit %s" % version.name, "edited %s" % version.name
    uid = c.create(enums.CryptographicAlgorithm.AES, 128, name=first)
    name = lambda text: FACTORY.create_attribute(A.NAME, text)
    if version < V.KMIP_2_0:
        attribute = name(second)
        attribute.attribute_index = cobjects.Attribute.AttributeIndex(0)
        _, modified = c.modify_attribute(uid, attribute=attribute)
        assert modified.attribute_value.name_value.value == second
        denied = [enums.ResultReason.PERMISSION_DENIED]
        refused(denied, c.modify_attribute, uid, attribute=FACTORY.create_attribute(A.STATE, enums.State.ACTIVE))
        refused(denied, c.delete_attribute, uid, attribute_name="Cryptographic Length")
        assert locate(c, second) == [uid] and locate(c, first) == []
        _, deleted = c.delete_attribute(uid, attribute_name="Name", attribute_index=0)
        assert deleted.attribute_value.name_value.value == second
        refused([enums.ResultReason.ITEM_NOT_FOUND], c.delete_attribute, uid, attribute_name="Name", attribute_index=0)
    else:
        plain = lambda text: VALUES.create_attribute_value(A.NAME, text)
        new = cobjects.NewAttribute(attribute=plain(second))
        current = cobjects.CurrentAttribute(attribute=plain(first))
        c.modify_attribute(uid, current_attribute=current, new_attribute=new)
        assert locate(c, second) == [uid] and locate(c, first) == []
        refused([enums.ResultReason.ATTRIBUTE_INSTANCE_NOT_FOUND], c.modify_attribute, uid, current_attribute=current, new_attribute=new)
        active = primitives.Enumeration(enums.State, enums.State.ACTIVE, tag=enums.Tags.STATE)
        reasons = [enums.ResultReason.ATTRIBUTE_READ_ONLY, enums.ResultReason.READ_ONLY_ATTRIBUTE]
        refused(reasons, c.modify_attribute, uid, new_attribute=cobjects.NewAttribute(attribute=active))
        c.delete_attribute(uid, current_attribute=cobjects.CurrentAttribute(attribute=plain(second)))
        reference = cobjects.AttributeReference(vendor_identification="x", attribute_name="none")
        refused([enums.ResultReason.ATTRIBUTE_NOT_FOUND], c.delete_attribute, uid, attribute_reference=reference)
    assert locate(c, second) == []
    c.destroy(uid)


def key_pairs(c, version):
    """A pair, linked both ways, and one of another kind."""
    label = version.name
    public, private = c.create_key_pair(
        enums.CryptographicAlgorithm.RSA, 2048,
        public_name="pair public " + label, public_usage_mask=[enums.CryptographicUsageMask.VERIFY],
        private_name="pair private " + label, private_usage_mask=[enums.CryptographicUsageMask.SIGN],
    )
    assert locate(c, "pair public " + label) == [public] and locate(c, "pair private " + label) == [private]
    one, other = c.get(public), c.get(private)
    assert isinstance(one, objects.PublicKey) and isinstance(other, objects.PrivateKey), (one, other)
    assert one.cryptographic_length == other.cryptographic_length == 2048
    for uid, partner, kind in [(public, private, "Private Key Link"), (private, public, "Public Key Link")]:
        # PyKMIP knows no Link; that it is there can be told.
        assert "Link" in c.get_attribute_list(uid)
        c.destroy(uid)


def pairs_anew(c, version):
    """A pair that takes the place of another; of 1.1, and in 2.0 the library sends what that does not have."""
    if not V.KMIP_1_1 <= version < V.KMIP_2_0:
        return
    name = "pair anew " + version.name
    usage = {"public_usage_mask": [enums.CryptographicUsageMask.VERIFY], "private_usage_mask": [enums.CryptographicUsageMask.SIGN]}
    public, private = c.create_key_pair(enums.CryptographicAlgorithm.RSA, 2048, private_name=name, **usage)
    result = c.proxy.rekey_key_pair(private_key_uuid=kmip_attributes.PrivateKeyUniqueIdentifier(private))
    assert result.result_status.value == enums.ResultStatus.SUCCESS, result.result_message
    text = lambda uid: getattr(uid, "value", uid)
    new_public, new_private = text(result.public_key_uuid), text(result.private_key_uuid)
    assert len({public, private, new_public, new_private}) == 4
    assert locate(c, name) == [new_private], "the Name goes to the new one"
    assert c.get(public).value != c.get(new_public).value
    for uid in [public, private, new_public, new_private]:
        c.destroy(uid)


def keys_anew(c, version):
    """A key that takes the place of another."""
    name = "key anew " + version.name
    masks = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]
    uid = c.create(enums.CryptographicAlgorithm.AES, 256, name=name, cryptographic_usage_mask=masks)
    c.activate(uid)
    if version < V.KMIP_2_0:
        new = c.rekey(uid, offset=0)
    else:
        # Its own call would add a Template-Attribute, which 2.0 does not have.
        new = c.proxy.rekey(uuid=uid, offset=0)["unique_identifier"]
    assert new and new != uid
    assert locate(c, name) == [new], "the Name goes to the new one"
    assert len(c.get(new).value) == 32 and c.get(new).value != c.get(uid).value
    assert state(c, new) == enums.State.ACTIVE and state(c, uid) == enums.State.ACTIVE
    for uid in [uid, new]:
        c.revoke(enums.RevocationReasonCode.SUPERSEDED, uid)
        c.destroy(uid)


def checks(c, version):
    """Whether a use is allowed."""
    encrypt, sign = enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.SIGN
    uid = c.create(enums.CryptographicAlgorithm.AES, 128, cryptographic_usage_mask=[encrypt])
    assert c.check(uid, cryptographic_usage_mask=[encrypt]) == uid
    if version < V.KMIP_2_0:
        # What is not allowed comes back, and no identifier.
        told = c.proxy.check(uid, cryptographic_usage_mask=[sign])
        assert told["unique_identifier"] is None and told["cryptographic_usage_mask"] == [sign], told
    else:
        # It is a failure then, and of one the library looks for the payload, which a failure does not have.
        try:
            c.check(uid, cryptographic_usage_mask=[sign])
        except (AttributeError,) + FAILED:
            pass
        else:
            raise AssertionError("a use that is not allowed was allowed")
    c.destroy(uid)


def wrapped_keys(c, version):
    """A key wrapped on its way out, and what is in it."""
    if version < V.KMIP_1_1:
        return  # it always sends an Encoding Option, which is of 1.1
    wrap = [enums.CryptographicUsageMask.WRAP_KEY, enums.CryptographicUsageMask.UNWRAP_KEY]
    secret, outer = bytes(range(32)), bytes(range(100, 116))
    aes, label = enums.CryptographicAlgorithm.AES, version.name
    uid = c.register(objects.SymmetricKey(aes, 256, secret, masks=[enums.CryptographicUsageMask.ENCRYPT], name="inner " + label))
    kek = c.register(objects.SymmetricKey(aes, 128, outer, masks=wrap, name="outer " + label))
    c.activate(kek)
    specification = {
        "wrapping_method": enums.WrappingMethod.ENCRYPT,
        "encryption_key_information": {
            "unique_identifier": kek,
            "cryptographic_parameters": {"block_cipher_mode": enums.BlockCipherMode.NIST_KEY_WRAP},
        },
        "encoding_option": enums.EncodingOption.NO_ENCODING,
    }
    # It sends the specification right, and can't read a Key Value that is a Byte String: so its bytes are looked at.
    receive, seen = c.proxy._receive_message, []

    def received():
        message = receive()
        seen.append(bytes(message.buffer))
        return message

    c.proxy._receive_message = received
    try:
        c.get(uid, key_wrapping_specification=specification)
    except ReadValueError:
        pass
    else:
        raise AssertionError("it has learnt to read wrapped keys")
    finally:
        c.proxy._receive_message = receive
    value = seen[0].split(b"\x42\x00\x45\x08")[1]
    length = int.from_bytes(value[:4], "big")
    assert keywrap.aes_key_unwrap(outer, value[4:4 + length]) == secret
    none = not_found(version) if version < V.KMIP_2_0 else [enums.ResultReason.WRAPPING_OBJECT_NOT_FOUND]
    refused(none, c.get, uid, key_wrapping_specification=dict(
        specification, encryption_key_information={"unique_identifier": "nothing of that name"}))
    c.revoke(enums.RevocationReasonCode.SUPERSEDED, kek)
    for one in [uid, kek]:
        c.destroy(one)


def settings(c, version):
    """Set Attribute, which it speaks in 2.0."""
    if version < V.KMIP_2_0:
        return
    uid = c.create(enums.CryptographicAlgorithm.AES, 128)
    assert c.set_attribute(uid, attribute_name="Sensitive", attribute_value=True) == uid
    _, attributes = c.get_attributes(uid, ["Sensitive"])
    assert value(attributes, "Sensitive")[0].value is True
    reasons = [enums.ResultReason.ATTRIBUTE_READ_ONLY, enums.ResultReason.READ_ONLY_ATTRIBUTE]
    refused(reasons, c.set_attribute, uid, attribute_name="Cryptographic Length", attribute_value=1)
    c.destroy(uid)


def services(c, version):
    """What this server does not do is said in the standard's words."""
    reason = [enums.ResultReason.OPERATION_NOT_SUPPORTED]
    uid = c.create(enums.CryptographicAlgorithm.AES, 128)
    refused(reason, c.encrypt, b"data", uid)
    refused(reason, c.decrypt, b"data", uid)
    refused(reason, c.sign, b"data", uid)
    refused(reason, c.signature_verify, b"data", b"signature", uid)
    refused(reason, c.mac, b"data", uid, enums.CryptographicAlgorithm.HMAC_SHA256)
    derivation = {"cryptographic_parameters": {"hashing_algorithm": enums.HashingAlgorithm.SHA_256}, "derivation_data": b"data"}
    length = {"cryptographic_length": 128, "cryptographic_algorithm": enums.CryptographicAlgorithm.AES}
    refused(reason, c.derive_key, enums.ObjectType.SYMMETRIC_KEY, [uid], enums.DerivationMethod.HASH, derivation, **length)
    c.destroy(uid)


# Every call that the library has is in one of these.
PARTS = [introductions, life, kinds, edits, key_pairs, pairs_anew, keys_anew, checks, wrapped_keys, settings, services]


def main():
    for version in VERSIONS:
        with connect(version) as c:
            for part in PARTS:
                try:
                    part(c, version)
                except Exception:
                    print("in %s, %s:" % (version.name, part.__name__), file=sys.stderr, flush=True)
                    raise
        print("%s passed" % version.name, flush=True)


main()
