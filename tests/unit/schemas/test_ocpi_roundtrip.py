"""What is written is read back equal, and versions translate without losing what they can say."""

import re
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.ocpi import objects, v221, wire
from schemas.ocpi.v211 import issuer_of
from tests import strategies

PARTY = ("NL", "TNM")
calm = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
spoken = pytest.mark.parametrize(("kind", "version"), wire.SPOKEN)


@spoken
@given(data=st.data())
@calm
def test_what_a_version_says_is_read_back(kind: str, version: str, data: st.DataObject) -> None:
    anything, up = strategies.spoken(kind, version)
    found = up(data.draw(anything))
    assert wire.decode(kind, version, wire.encode(kind, version, found), party=PARTY) == found


@spoken
@given(data=st.data())
@calm
def test_translation_settles_at_once(kind: str, version: str, data: st.DataObject) -> None:
    """A version says what it can of any object; said again, it is the same."""
    said = wire.encode(kind, version, data.draw(strategies.canonical(kind)))
    found = wire.decode(kind, version, said, party=PARTY)
    assert wire.encode(kind, version, found) == said
    assert wire.decode(kind, version, wire.encode(kind, version, found), party=PARTY) == found


@given(strategies.structs(objects.CDR))
@calm
def test_prices_mean_the_same_through_2_2_1(cdr: objects.CDR) -> None:
    back = wire.decode("cdr", "2.2.1", wire.encode("cdr", "2.2.1", cdr))
    for name in v221.COSTS:
        before, after = getattr(cdr, name), getattr(back, name)
        assert (before is None) == (after is None)
        if before is not None:
            assert before.before_taxes == after.before_taxes
            assert v221.after_taxes(before) == v221.after_taxes(after)


@given(strategies.structs(objects.Tariff))
@calm
def test_tariffs_mean_the_same_through_2_2_1(tariff: objects.Tariff) -> None:
    back = wire.decode("tariff", "2.2.1", wire.encode("tariff", "2.2.1", tariff))
    assert (back.min_price, back.max_price) == (tariff.min_price, tariff.max_price)
    assert back.tax_included is objects.TaxIncluded.NO
    for one, other in zip(tariff.elements, back.elements, strict=True):
        assert one.restrictions == other.restrictions
        for before, after in zip(one.price_components, other.price_components, strict=True):
            assert (before.type, before.step_size) == (after.type, after.step_size)
            match tariff.tax_included:
                case objects.TaxIncluded.NO:
                    assert before == after
                case objects.TaxIncluded.NOT_APPLICABLE:
                    assert (after.price, after.vat) == (before.price, None)
                case objects.TaxIncluded.YES:
                    assert before.vat == after.vat
                    if before.vat and before.vat > -100:
                        with_vat = after.price * (1 + before.vat / 100)
                        assert abs(with_vat - before.price) < Decimal("1e-6")
                    else:
                        assert before.price == after.price


@given(strategies.numbers)
def test_numbers_are_exact(number: Decimal) -> None:
    body = b'{"type":"ENERGY","volume":%s,"price":%s,"step_size":1}' % ((str(number).encode(),) * 2)
    tariff = (
        b'{"country_code":"NL","party_id":"TNM","id":"1","currency":"EUR","tax_included":"NO",'
        b'"elements":[{"price_components":[%s]}],"last_updated":"2026-01-01T00:00:00Z"}' % body
    )
    assert wire.decode("tariff", "2.3.0", tariff).elements[0].price_components[0].price == number


@given(strategies.sessions)
@calm
def test_every_timestamp_that_is_written_is_one_of_ocpi(session: objects.Session) -> None:
    """types "DateTime": string(25) in UTC; only microseconds that were really given make it longer."""
    text = wire.encode("session", "2.3.0", session).decode()
    for stamp in re.findall(r'"(?:start_date_time|end_date_time|last_updated)":"([^"]*)"', text):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,5}[1-9])?Z", stamp)


@pytest.mark.parametrize(
    ("auth_id", "issuer"),
    [
        ("DE8ACC12E46L89", ("DE", "8AC")),
        ("NL-TNM-C00000012-3", ("NL", "TNM")),
        ("nl*tnm*012204*5", ("NL", "TNM")),
        ("DE-8EO-000123-4", ("DE", "8EO")),
        ("012345678", ("", "")),
        ("DE*8EO-000123-4", ("", "")),
        ("DE8EO0001234", ("", "")),
    ],
)
def test_who_issued_a_token_of_211(auth_id: str, issuer: tuple[str, str]) -> None:
    """The contract id says it, where it is one; 2.1.1 has no other field for it."""
    assert issuer_of(auth_id) == issuer
