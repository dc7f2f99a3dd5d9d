"""Every JSON example of the specification is read, and written back equal, in its version and in others."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.ocpi import objects, platforms, requests, unsaid, wire
from tests import strategies

EXAMPLES = Path(__file__).parents[2] / "data" / "ocpi-examples"
PARTY = ("NL", "TNM")

# Examples that show a part of a location, and where in it they belong.
PARTS = {
    "location_energymix_example_complete",
    "location_energymix_example_energy_provider",
    "location_energymix_example_simple",
    "location_hours_247_open_exception_closing",
    "location_hours_opening_hours_with_exceptional_closing",
    "location_hours_opening_hours_with_exceptional_opening",
    "location_regularhours_example",
}
# Examples that lack what their own module requires, and what is missing first.
INCOMPLETE = {
    "tariff_put_example": "last_updated",
    "location_put_example_add_evse": "connectors[0].power_type",
}
PATCHES = {
    "location_patch_example_location": "location",
    "location_patch_example_remove_evse": "evse",
    "location_patch_example_status": "evse",
    "location_patch_example_tariff": "connector",
    "session_patch_example_charging_period": "session",
    "session_patch_example_total_cost": "session",
    "token_patch_example": "token",
    "payment_terminal_location_assignment": "terminal",
}
# Examples of responses or lists, which hold objects.
ENVELOPES = {
    "transport_and_format_error_example": None,
    "transport_and_format_get_token_example": "token",
    "transport_and_format_get_token_list_example": "token",
    "transport_and_format_version_details_example": "version_details",
    "transport_and_format_version_info_example": "version",
}
LISTS = {"versions_info_example": "version"}
# Examples whose kind is not the first word of their name.
NAMED = {
    "payment_terminal_activate": "terminal_update",
    "payment_terminal_create": "new_terminal",
    "payment_terminal_create_minimal": "new_terminal",
    "payment_terminal_put_update": "terminal_update",
    "payment_terminal_example": "terminal",
    "payment_financial_advice_confirmation": "financial_advice_confirmation",
    "version_details": "version_details",
    "type_displaytext": "displaytext",
    "tariffrestriction": "tariff",
}
FILES = sorted(EXAMPLES.glob("*/*.json"))
_OTHERS = (
    PARTS
    | INCOMPLETE.keys()
    | PATCHES.keys()
    | ENVELOPES.keys()
    | LISTS.keys()
    | {"type_displaytext_example"}
)
WHOLE = [path for path in FILES if path.stem not in _OTHERS]


def _id(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def kind_of(path: Path) -> str:
    named = (kind for name, kind in NAMED.items() if path.stem.startswith(name))
    return max(named, key=len, default=path.stem.split("_")[0])


def test_there_are_examples_of_every_version_and_module() -> None:
    found = {(path.parent.name, kind_of(path)) for path in WHOLE}
    everywhere = ("cdr", "location", "session", "tariff", "token", "credentials", "version_details")
    payments = ("terminal", "new_terminal", "terminal_update", "financial_advice_confirmation")
    assert found == {(v, kind) for v in wire.VERSIONS for kind in everywhere} | {
        ("2.3.0", kind) for kind in payments
    }
    assert {path.stem for path in FILES} >= PARTS | PATCHES.keys() | ENVELOPES.keys() | LISTS.keys()


@pytest.mark.parametrize("path", WHOLE, ids=_id)
def test_an_example_is_read_and_written_back(path: Path) -> None:
    kind, version, body = kind_of(path), path.parent.name, path.read_bytes()
    found = wire.decode(kind, version, body, party=PARTY)
    again = wire.encode(kind, version, found)
    assert wire.decode(kind, version, again, party=PARTY) == found
    # 2.1.1 embeds a whole location, of which a session and a CDR keep the identifiers.
    if version != "2.1.1" or kind not in ("session", "cdr"):
        assert plain(again) == known(plain(body), plain(again))


def plain(body: bytes | str) -> Any:
    return json.loads(body, parse_float=Decimal, parse_int=Decimal)


def known(sent: object, kept: object) -> object:
    """What was sent, with what is always written: `tax_included`, which examples of CDRs lack."""
    if isinstance(sent, dict) and isinstance(kept, dict):
        if "excl_vat" in sent and "before_taxes" in kept:  # as examples of payments have it
            taxes = [{"name": "VAT", "amount": sent["incl_vat"] - sent["excl_vat"]}]
            return {"before_taxes": sent["excl_vat"], "taxes": taxes}
        sent = {name: value for name, value in sent.items() if value != [] or name in kept}
        more = {"tax_included": kept["tax_included"]} if "tax_included" in kept else {}
        return more | {name: known(value, kept.get(name)) for name, value in sent.items()}
    if isinstance(sent, list) and isinstance(kept, list):
        return [known(one, other) for one, other in zip(sent, kept, strict=True)]
    return sent


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in PARTS], ids=_id)
def test_an_example_of_a_part_is_read_in_its_place(path: Path) -> None:
    version = path.parent.name
    whole = json.loads((EXAMPLES / version / "location_example.json").read_text())
    part = json.loads(path.read_text())
    if "energy_mix" not in part and "opening_times" not in part:
        part = {"opening_times": part}
    if "twentyfourseven" not in part.get("opening_times", {"twentyfourseven": False}):
        # The specification's example of regular hours lacks the required flag.
        body = json.dumps(whole | part).encode()
        with pytest.raises(wire.InvalidObjectError) as caught:
            wire.decode("location", version, body)
        assert caught.value.path == "opening_times.twentyfourseven"
        part["opening_times"]["twentyfourseven"] = False
    found = wire.decode("location", version, json.dumps(whole | part).encode())
    assert plain(wire.encode("location", version, found)).items() >= plain(json.dumps(part)).items()


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in INCOMPLETE], ids=_id)
def test_an_incomplete_example_is_refused_for_what_it_lacks(path: Path) -> None:
    kind = "evse" if "evse" in path.stem else "tariff"
    with pytest.raises(wire.InvalidObjectError) as caught:
        wire.decode(kind, path.parent.name, path.read_bytes())
    # msgspec refuses at the first fault in the order of the text: a required field before a wrong type.
    assert caught.value.path == INCOMPLETE[path.stem]


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in PATCHES], ids=_id)
def test_an_example_of_a_patch_changes_what_it_names(path: Path) -> None:
    kind, version = PATCHES[path.stem], path.parent.name
    source = EXAMPLES / version
    match kind:
        case "session":
            current = wire.decode(
                kind, version, (source / "session_example_2_short_finished.json").read_bytes()
            )
        case "terminal":
            name = "payment_terminal_example_newly_created.json"
            current = wire.decode(kind, version, (source / name).read_bytes())
        case "token":
            current = wire.decode(kind, version, (source / "token_example_2_full_rfid.json").read_bytes())
        case _:
            current = wire.decode("location", version, (source / "location_example.json").read_bytes())
            if kind != "location":
                current = current.evses[0]
            if kind == "connector":
                current = current.connectors[0]
    patch = json.loads(path.read_text())
    new = wire.apply_patch(kind, version, current, path.read_bytes())
    before, after = (
        json.loads(wire.encode(kind, version, current)),
        json.loads(wire.encode(kind, version, new)),
    )
    if "charging_periods" in patch:
        assert len(new.charging_periods) == len(current.charging_periods) + 1
        patch["charging_periods"] = before["charging_periods"] + patch["charging_periods"]
    assert after == before | patch


@pytest.mark.parametrize("path", WHOLE, ids=_id)
def test_an_example_means_the_same_in_the_other_versions(path: Path) -> None:
    """But for what `unsaid` lists."""
    kind = kind_of(path)
    found = wire.decode(kind, path.parent.name, path.read_bytes(), party=PARTY)
    others = [version for its, version in wire.SPOKEN if its == kind and version != path.parent.name]
    for version in others:
        assert not _unlisted(kind, version, found)
    assert len(others) == (0 if path.stem.startswith("payment") else 2)


_many = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("kind", "version"), [pair for pair in wire.SPOKEN if pair[1] != "2.3.0"])
@given(data=st.data())
@_many
def test_what_a_version_cannot_say_is_listed(kind: str, version: str, data: st.DataObject) -> None:
    assert not _unlisted(kind, version, data.draw(strategies.canonical(kind)))


def _unlisted(kind: str, version: str, found: Any) -> list[str]:
    """The fields that are another after a way through a version, and of which `unsaid` does not say so."""
    token = getattr(found, "token", None)
    owner = token if isinstance(token, objects.Token) else found
    party = (getattr(owner, "country_code", ""), getattr(owner, "party_id", ""))
    back = wire.decode(kind, version, wire.encode(kind, version, found), party=party)
    one, other = (plain(wire.encode(kind, "2.3.0", item)) for item in (found, back))
    return [path for path in differences(one, other) if not unsaid.excused(kind, version, path)]


def differences(one: object, other: object, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            yield from differences(one.get(name), other.get(name), f"{path}.{name}" if path else name)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for first, second in zip(one, other, strict=True):
            yield from differences(first, second, path)
    elif one != other:
        yield path


def test_the_document_lists_what_versions_cannot_say() -> None:
    document = (Path(__file__).parents[3] / "docs" / "ocpi.md").read_text()
    assert unsaid.markdown() in document


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in ENVELOPES], ids=_id)
def test_an_example_of_a_response_holds_objects(path: Path) -> None:
    kind, version = ENVELOPES[path.stem], path.parent.name
    whole = wire.envelope(path.read_bytes())
    sent = plain(path.read_bytes())
    assert whole.timestamp is not None
    assert (whole.status_code, whole.status_message) == (sent["status_code"], sent["status_message"])
    if kind is None:
        assert bytes(whole.data) == b""
        return
    if isinstance(sent["data"], list):
        found = wire.decode_list(kind, version, bytes(whole.data), party=PARTY)
        assert [plain(wire.encode(kind, version, item)) for item in found] == sent["data"]
        assert [plain(item) for item in wire.items(bytes(whole.data))] == sent["data"]
    else:
        one = wire.decode(kind, version, bytes(whole.data), party=PARTY)
        assert plain(wire.encode(kind, version, one)) == sent["data"]


@pytest.mark.parametrize("path", [path for path in FILES if path.stem in LISTS], ids=_id)
def test_an_example_of_a_list_is_read_and_written_back(path: Path) -> None:
    kind, version, body = LISTS[path.stem], path.parent.name, path.read_bytes()
    found = wire.decode_list(kind, version, body)
    assert [plain(wire.encode(kind, version, item)) for item in found] == plain(body)


def test_an_item_of_a_list_that_is_wrong_is_named() -> None:
    body = (EXAMPLES / "2.3.0" / "versions_info_example.json").read_bytes().replace(b'"url"', b'"uri"')
    with pytest.raises(wire.InvalidObjectError) as caught:
        wire.decode_list("version", "2.3.0", body)
    assert caught.value.path == "[0].url"
    with pytest.raises(wire.InvalidObjectError):
        wire.items(b'{"data": []}')


def test_the_example_of_a_text_is_one_of_a_tariff() -> None:
    body = (EXAMPLES / "2.3.0" / "type_displaytext_example.json").read_bytes()
    tariff = msgspec.json.decode((EXAMPLES / "2.3.0" / "tariff_1_simple_2hour.json").read_bytes())
    whole = msgspec.json.encode(tariff | {"tariff_alt_text": [msgspec.Raw(body)]})
    assert wire.decode("tariff", "2.3.0", whole).tariff_alt_text == [objects.DisplayText(**plain(body))]


def test_credentials_of_every_version_mean_the_same() -> None:
    for version in wire.VERSIONS:
        name = "credentials_example" if version == "2.1.1" else "credentials_example3"
        found = wire.decode("credentials", version, (EXAMPLES / version / f"{name}.json").read_bytes())
        (role,) = found.roles
        assert (role.country_code, role.party_id, role.business_details.name) == (
            "NL",
            "EXA",
            "Example Operator",
        )
        assert role.business_details.logo.width == 512


def test_a_hub_is_a_role_or_a_party() -> None:
    """A hub is a role in 2.2.1, alone there, and in 2.3.0 a party, beside those that it reaches."""
    details = objects.BusinessDetails(name="Hub")
    hub = platforms.CredentialsRole(
        role=platforms.Role.HUB, country_code="NL", party_id="HUB", business_details=details
    )
    reached = platforms.CredentialsRole(
        role=platforms.Role.CPO, country_code="NL", party_id="TNM", business_details=details
    )
    newer = platforms.Credentials(token="t", url="https://h", hub_party_id="NLHUB", roles=[reached])
    older = wire.decode("credentials", "2.2.1", wire.encode("credentials", "2.2.1", newer))
    assert [(role.role, role.party_id) for role in older.roles] == [("HUB", "HUB")]
    assert older.hub_party_id == "NLHUB"
    oldest = wire.decode("credentials", "2.1.1", wire.encode("credentials", "2.1.1", newer))
    assert [(role.role, role.party_id) for role in oldest.roles] == [("OTHER", "HUB")]
    both = platforms.Credentials(token="t", url="https://h", hub_party_id="NLHUB", roles=[reached, hub])
    assert wire.decode("credentials", "2.2.1", wire.encode("credentials", "2.2.1", both)) == both


def test_what_2_1_1_does_not_know_of_a_command_is_a_rejection() -> None:
    for result in requests.CommandResultType:
        old = wire.encode("command_result", "2.1.1", requests.CommandResult(result=result))
        known = ("ACCEPTED", "NOT_SUPPORTED", "REJECTED", "TIMEOUT")
        assert json.loads(old) == {"result": result.value if result.value in known else "REJECTED"}
    answer = wire.decode("command_response", "2.1.1", b'{"result": "TIMEOUT"}')
    assert answer == requests.CommandResponse(result=requests.CommandResponseType.REJECTED, timeout=60)


def test_a_cdr_that_is_read() -> None:
    body = (EXAMPLES / "2.3.0" / "cdr_example.json").read_bytes()
    cdr = wire.decode("cdr", "2.3.0", body)
    assert cdr.total_cost.before_taxes == Decimal("4.00")
    assert cdr.total_cost.taxes == [objects.TaxAmount(name="VAT", amount=Decimal("0.40"))]
    assert cdr.tariffs[0].tax_included is objects.TaxIncluded.NO
    assert cdr.charging_periods[0].dimensions == [
        objects.CdrDimension(type=objects.CdrDimensionType.TIME, volume=Decimal("1.973"))
    ]


def test_the_same_cdr_in_2_2_1_means_the_same() -> None:
    """The example of 2.2.1 differs in its dates only; 4.40 with VAT is 4.00 and a tax of 0.40."""
    old = wire.decode("cdr", "2.2.1", (EXAMPLES / "2.2.1" / "cdr_example.json").read_bytes())
    new = wire.decode("cdr", "2.3.0", (EXAMPLES / "2.3.0" / "cdr_example.json").read_bytes())
    assert (old.total_cost, old.total_time_cost) == (new.total_cost, new.total_time_cost)
    assert old.cdr_location == new.cdr_location
    assert old.tariffs[0].elements == new.tariffs[0].elements


def test_a_session_of_2_1_1_names_what_it_embeds() -> None:
    body = (EXAMPLES / "2.1.1" / "session_2_short_finished.json").read_bytes()
    session = wire.decode("session", "2.1.1", body, party=PARTY)
    assert (session.country_code, session.party_id) == PARTY
    assert (session.location_id, session.evse_uid, session.connector_id) == ("LOC1", "3256", "1")
    assert session.cdr_token.uid == session.cdr_token.contract_id == "DE8ACC12E46L89"
    assert session.total_cost == objects.Price(before_taxes=Decimal("8.50"))


@pytest.mark.parametrize("path", WHOLE, ids=_id)
def test_the_version_of_an_example_is_detected(path: Path) -> None:
    version, kind = path.parent.name, kind_of(path)
    if (version, kind) in {("2.2.1", "location"), ("2.2.1", "token"), ("2.2.1", "credentials")}:
        version = "2.3.0"  # nothing in them tells the two apart
    if kind == "version_details":
        version = "2.3.0"  # an answer to whoever asked for a version
    if path.stem.startswith("payment_financial"):
        version = "2.2.1"  # by the names in its price
    assert wire.detect_version(kind, path.read_bytes()) == version
