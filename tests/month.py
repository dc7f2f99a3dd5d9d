"""A month of charging between several operators, providers, a payment terminal provider and a hub, in four
currencies: real sessions of a garage (`voltfold/demo/data`), told as CDRs, with everything that goes wrong.

What everybody must owe everybody is reckoned here in whole numbers (billionths of a unit of currency), by
rules written down a second time: nothing of `streams` takes part.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

from schemas.records import Event, event_id, micros
from schemas.settlement import Closing, Decision, Fee, Policy, Receipt, pair_key, reference_of
from streams.folding import Fact
from streams.references import references_of
from tests.unit.streams.books import said
from voltfold.demo.garage import Visit, read_visits

BILLION = 10**9
HUB = "NL*VLF"
TERMINALS = "NL*PAY"
PROVIDERS = ("DE*EMS", "FR*MOB", "SE*VOL", "NL*GOO")
FIRST, SECOND = "201804", "201805"
"""The months that the statements are about; the garage's own weeks are moved into them."""


@dataclass(frozen=True)
class Operator:
    """One operator: what it charges (a kWh, before VAT), and what is settled of it."""

    party: str
    currency: str
    digits: int
    price: Decimal
    vat: int
    zone: str
    mode: str = "as_billed"
    fee: bool = False
    issue: str = "none"


OPERATORS = (
    Operator("NL*TNM", "EUR", 2, Decimal("0.35"), 21, "Europe/Amsterdam", issue="direct"),
    Operator("CH*MOV", "CHF", 2, Decimal("0.41"), 8, "Europe/Zurich", "as_priced"),
    Operator("BE*BEC", "EUR", 2, Decimal("0.39"), 6, "Europe/Brussels", "within_tolerance", issue="reverse"),
    Operator("SE*LAD", "SEK", 2, Decimal("3.95"), 25, "Europe/Stockholm", fee=True),
    Operator("JP*DEN", "JPY", 0, Decimal("55"), 10, "Asia/Tokyo"),
)
FEE_FIXED, FEE_PERCENT = Decimal("0.15"), 1


@dataclass
class Owed:
    """What is owed in one direction and currency, in billionths: by month, before tax, tax, payments."""

    before: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    tax: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    payments: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    lines: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    late: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    digits: int = 2
    rate: int = 0

    def total(self, month: str) -> int:
        """A month's total, each sum rounded to the minor unit."""
        return _rounded(self.before[month], self.digits) + _rounded(self.tax[month], self.digits)


Direction = tuple[str, str, str]
"""Creditor, debtor, currency."""


@dataclass
class Month:
    """What is said, in three acts, and what must come of it."""

    policies: list[tuple[bytes, Event]] = field(default_factory=list)
    objects: list[Event] = field(default_factory=list)
    """Tariffs and locations, as operators push them."""
    early: list[tuple[bytes, Event]] = field(default_factory=list)
    """Sessions topic: references and the CDRs that arrive in time."""
    late: list[tuple[bytes, Event]] = field(default_factory=list)
    """Sessions topic: what arrives after the first month's closing."""
    money: list[tuple[bytes, Event]] = field(default_factory=list)
    """Ledger topic: decisions and payments, after the first closing."""
    owed: dict[Direction, Owed] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    """Claims that nobody resolves."""
    wrong: int = 0
    sessions: int = 0
    kinds: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def closings(self, month: str) -> list[tuple[bytes, Event]]:
        """Every statement of a month, to be closed after it."""
        on = "2018-06-10" if month == SECOND else "2018-05-10"
        return [
            (pair_key(creditor, debtor).encode(), said("closings", Closing(reference=name), on))
            for (creditor, debtor, currency) in sorted(self.owed)
            for name in (reference_of(creditor, debtor, currency, month),)
        ]

    def balance(self, direction: Direction, *, closed: tuple[str, ...]) -> int:
        """What must stand on the debtor's account, in billionths: rounded where a statement is closed."""
        owed = self.owed[direction]
        months = set(owed.before) | set(owed.payments)
        exact = sum(owed.before[m] + owed.tax[m] for m in months if m not in closed)
        return exact + sum(owed.total(m) for m in months if m in closed) - sum(owed.payments.values())


def _rounded(billionths: int, digits: int) -> int:
    """To whole minor units, half away from zero; still in billionths."""
    unit = 10 ** (9 - digits)
    whole, rest = divmod(abs(billionths), unit)
    found = (whole + (2 * rest >= unit)) * unit
    return -found if billionths < 0 else found


def _chance(*parts: object) -> int:
    return int.from_bytes(blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest(), "big")


def _units(amount: Decimal) -> int:
    found = amount * BILLION
    assert found == int(found)
    return int(found)


def make(sessions: int) -> Month:
    """So many sessions, the same ones every time."""
    month = Month()
    for operator in OPERATORS:
        for debtor in (*PROVIDERS, TERMINALS):
            fees = []
            if operator.fee:
                fees = [
                    Fee(
                        currency=operator.currency,
                        party=HUB,
                        payer=operator.party,
                        fixed=FEE_FIXED,
                        percent=Decimal(FEE_PERCENT),
                    )
                ]
            policy = Policy(
                creditor=operator.party,
                debtor=debtor,
                since=0,
                mode=operator.mode,
                tolerance_amount=Decimal("0.01"),
                time_zone=operator.zone,
                issue=operator.issue,
                fees=fees,
            )
            key = pair_key(operator.party, debtor).encode()
            month.policies.append((key, said("policies", policy, "2018-03-01")))
            month.owed[operator.party, debtor, operator.currency] = Owed(
                digits=operator.digits, rate=operator.vat
            )
        month.early += _references(month, operator)
    month.owed[HUB, "SE*LAD", "SEK"] = Owed()
    visits = read_visits()
    copies = 0
    while month.sessions < sessions:
        for visit in visits:
            if month.sessions == sessions:
                break
            _session(month, visit, copies)
        copies += 1
    month.owed = {key: one for key, one in month.owed.items() if one.lines or one.payments}
    return month


def _references(month: Month, operator: Operator) -> list[tuple[bytes, Event]]:
    """The operator's tariff and location, as pricing gets them."""
    country, party = operator.party.split("*")
    head = {"country_code": country, "party_id": party, "last_updated": "2018-01-01T00:00:00Z"}
    component = {"type": "ENERGY", "price": float(operator.price), "vat": float(operator.vat), "step_size": 1}
    tariff = head | {
        "id": "T1",
        "currency": operator.currency,
        "elements": [{"price_components": [component]}],
    }
    location = head | {
        "id": "L1",
        "publish": True,
        "address": "A 1",
        "city": "C",
        "country": "NLD",
        "evses": [],
        "coordinates": {"latitude": "51.0", "longitude": "3.7"},
        "time_zone": operator.zone,
    }
    found = []
    for module, body in (("tariffs", tariff), ("locations", location)):
        event = _event(operator.party, module, "PUT", body, 1)
        month.objects.append(event)
        reference = references_of(Fact("x", 0, 0, b"", event.encode()))
        assert reference is not None
        found.append((reference.key.encode(), reference))
    return found


def _event(party: str, module: str, method: str, body: dict[str, Any], received_at: int) -> Event:
    raw = json.dumps(body).encode()
    path = [*party.split("*"), str(body["id"])]
    return Event(
        id=event_id(party, module, method, path, raw),
        received_at=received_at,
        sender=party,
        version="2.2.1" if module == "tariffs" else "2.3.0",
        module=module,
        method=method,
        key=f"{party}*{body['id']}".upper(),
        path=path,
        request_id=None,
        correlation_id=None,
        body=raw,
    )


def _cdr(
    operator: Operator, debtor: str, name: str, visit: Visit, start: datetime, end: datetime, before: Decimal,
    tax: Decimal, received: datetime, **more: Any,
) -> tuple[bytes, Event]:  # fmt: skip
    country, party = operator.party.split("*")
    session = str(more.get("session_id", name))
    body = {
        "country_code": country,
        "party_id": party,
        "id": name,
        "session_id": session,
        "start_date_time": _iso(start),
        "end_date_time": _iso(end),
        "currency": operator.currency,
        "cdr_token": {
            "country_code": debtor[:2],
            "party_id": debtor[3:],
            "uid": visit.user[:30] or "U",
            "type": "AD_HOC_USER" if debtor == TERMINALS else "RFID",
            "contract_id": f"C-{visit.user}"[:36],
        },
        "auth_method": "COMMAND" if debtor == TERMINALS else "WHITELIST",
        "cdr_location": {
            "id": "L1",
            "address": "A 1",
            "city": "C",
            "country": "NLD",
            "evse_uid": visit.station[:36],
            "coordinates": {"latitude": "51.0", "longitude": "3.7"},
            "evse_id": "NL*TNM*E1",
            "connector_id": "1",
            "connector_standard": "IEC_62196_T2",
            "connector_format": "SOCKET",
            "connector_power_type": "AC_3_PHASE",
        },
        "charging_periods": [
            {
                "start_date_time": _iso(start),
                "tariff_id": "T1",
                "dimensions": [{"type": "ENERGY", "volume": float(visit.energy_kwh)}],
            }
        ],
        "total_cost": {
            "before_taxes": float(before),
            "taxes": [{"name": "VAT", "percentage": operator.vat, "amount": float(tax)}],
        },
        "total_energy": float(visit.energy_kwh),
        "total_time": 1,
        "last_updated": _iso(received),
        **more,
    }
    key = f"{operator.party}*{session}".upper().encode()
    return key, _event(operator.party, "cdrs", "POST", body, micros(received))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _session(month: Month, visit: Visit, copy: int) -> None:
    """One session with its CDR, and whatever befalls it."""
    month.sessions += 1
    name = f"{visit.session}-{copy}"
    operator = OPERATORS[_chance(name, "operator") % len(OPERATORS)]
    dice = _chance(name, "kind") % 1000
    debtor = TERMINALS if dice < 80 else PROVIDERS[_chance(name, "provider") % len(PROVIDERS)]
    # The garage's weeks begin somewhere; each session keeps its hours and gets a day of April or May 2018.
    day = datetime(2018, 4, 1, tzinfo=UTC) + timedelta(days=_chance(name, "day") % 61)
    start = day.replace(hour=visit.connected_at.hour, minute=visit.connected_at.minute, second=0)
    end = start + (visit.disconnected_at - visit.connected_at)
    label = _label(end, operator.zone)
    if label > SECOND:
        end = start + timedelta(minutes=1)
        label = _label(end, operator.zone)
    if label not in (FIRST, SECOND):
        start, end = start - timedelta(days=10), end - timedelta(days=10)
        label = _label(end, operator.zone)
    assert label in (FIRST, SECOND)
    places = Decimal(1).scaleb(-4 if operator.digits else 0)
    right = (visit.energy_kwh * operator.price).quantize(places)
    right_tax = (right * operator.vat / 100).quantize(places)
    exact = visit.energy_kwh * operator.price
    wrong = 80 <= dice < 160 and right * Decimal("0.2") > Decimal(2).scaleb(-operator.digits)
    before = (right * Decimal("1.2")).quantize(places) if wrong else right
    tax = (before * operator.vat / 100).quantize(places)
    late = _chance(name, "late") % 40 == 0
    received = datetime(2018, 5, 20, tzinfo=UTC) if late else end + timedelta(minutes=5)
    told = month.late if late or label == SECOND else month.early
    told.append(_cdr(operator, debtor, name, visit, start, end, before, tax, received))
    claim = f"{operator.party}*{name}".upper()
    owed = month.owed[operator.party, debtor, operator.currency]
    when = SECOND if late and label == FIRST else label
    month.kinds["late" if late else "in time"] += 1

    def post(into: str, net: Decimal | int, vat: Decimal | int, lines: int = 1, behind: int = 0) -> None:
        owed.before[into] += net if isinstance(net, int) else _units(net)
        owed.tax[into] += vat if isinstance(vat, int) else _units(vat)
        owed.lines[into] += lines
        owed.late[into] += behind

    settled = True
    if not wrong:
        if operator.mode == "as_priced":
            post(when, exact, exact * operator.vat / 100, behind=late and label == FIRST)
        else:
            post(when, before, tax, behind=late and label == FIRST)
        net = before
    else:
        month.wrong += 1
        net, settled = _wrong(
            *(month, operator, debtor, visit, name, start, end, before, tax, right, right_tax),
            late=late, label=label, when=when, exact=exact, post=post, claim=claim,
        )  # fmt: skip
    if operator.fee and settled and net:
        fee = month.owed[HUB, operator.party, operator.currency]
        fee.before[when] += _units(FEE_FIXED) + _units(net * FEE_PERCENT / 100)
        fee.lines[when] += 1
    if debtor == TERMINALS and label == FIRST and not wrong and operator.digits:
        paid = (before + tax).quantize(Decimal(1).scaleb(-operator.digits))
        if paid:
            receipt = Receipt(
                id=f"CARD-{name}",
                currency=operator.currency,
                amount=paid,
                received_on=micros(datetime(2018, 5, 25, tzinfo=UTC)),
                creditor=operator.party,
                debtor=debtor,
                source="card",
            )
            month.money.append(
                (pair_key(operator.party, debtor).encode(), said("receipts", receipt, "2018-05-25"))
            )
            owed.payments[SECOND] += _units(paid)
            month.kinds["card payments"] += 1


def _wrong(
    month: Month, operator: Operator, debtor: str, visit: Visit, name: str, start: datetime, end: datetime,
    before: Decimal, tax: Decimal, right: Decimal, right_tax: Decimal, *, late: bool, label: str, when: str,
    exact: Decimal, post: Any, claim: str,
) -> tuple[Decimal, bool]:  # fmt: skip
    """A bill a fifth too high: credited and billed again, decided on by a person, or left as it is.

    What of it is settled before taxes in the end, and whether anything is.
    """
    behind = late and label == FIRST
    fate = _chance(name, "fate") % 3
    if operator.mode == "as_priced":
        post(when, exact, exact * operator.vat / 100, behind=behind)
        if fate == 0:  # fully credited in the second month, and billed again rightly
            month.late += [
                _credit(operator, debtor, name, visit, start, end, before, tax),
                _again(operator, debtor, name, visit, start, end, right, right_tax),
            ]
            post(SECOND, -exact, -exact * operator.vat / 100, behind=label == FIRST)
            post(SECOND, exact, exact * operator.vat / 100, behind=label == FIRST)
            month.kinds["credited"] += 1
        return exact, True
    if operator.mode == "within_tolerance":
        if fate == 0:
            month.late += [
                _credit(operator, debtor, name, visit, start, end, before, tax),
                _again(operator, debtor, name, visit, start, end, right, right_tax),
            ]
            post(SECOND, right, right_tax, behind=label == FIRST)
            month.kinds["credited"] += 1
            return right, True
        if fate == 1:
            verdict = "accept" if _chance(name, "verdict") % 2 else "reject"
            decision = Decision(
                claim=claim, creditor=operator.party, debtor=debtor, verdict=verdict, why="looked into it"
            )
            key = pair_key(operator.party, debtor).encode()
            month.money.append((key, said("decisions", decision, "2018-05-26")))
            month.kinds[verdict] += 1
            if verdict == "accept":
                post(SECOND, before, tax, behind=label == FIRST)
                return before, True
            return before, False
        month.held.add(claim)
        return before, False
    post(when, before, tax, behind=behind)
    if fate == 0:
        month.late += [
            _credit(operator, debtor, name, visit, start, end, before, tax),
            _again(operator, debtor, name, visit, start, end, right, right_tax),
        ]
        post(SECOND, -before, -tax, behind=label == FIRST)
        post(SECOND, right, right_tax, behind=label == FIRST)
        month.kinds["credited"] += 1
        if operator.fee:
            fee = month.owed[HUB, operator.party, operator.currency]
            units = _units(FEE_FIXED) + _units(before * FEE_PERCENT / 100)
            fee.before[when] += units
            fee.before[SECOND] -= units
            fee.lines[when] += 1
            fee.lines[SECOND] += 2
            fee.before[SECOND] += _units(FEE_FIXED) + _units(right * FEE_PERCENT / 100)
            return right, False
    return before, True


def _credit(
    operator: Operator, debtor: str, name: str, visit: Visit, start: datetime, end: datetime, before: Decimal,
    tax: Decimal,
) -> tuple[bytes, Event]:  # fmt: skip
    return _cdr(
        *(operator, debtor, f"{name}-K", visit, start, end, -before, -tax, datetime(2018, 5, 27, tzinfo=UTC)),
        session_id=name, credit=True, credit_reference_id=name,
    )  # fmt: skip


def _again(
    operator: Operator, debtor: str, name: str, visit: Visit, start: datetime, end: datetime, before: Decimal,
    tax: Decimal,
) -> tuple[bytes, Event]:  # fmt: skip
    received = datetime(2018, 5, 27, 1, tzinfo=UTC)
    return _cdr(operator, debtor, f"{name}-N", visit, start, end, before, tax, received, session_id=name)


def _label(moment: datetime, zone: str) -> str:
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y%m")


def batches(told: list[tuple[bytes, Event]], topic: str, size: int, first: int = 0) -> Iterator[list[Fact]]:
    """Records as facts, cut into batches."""
    for begin in range(0, len(told), size):
        yield [
            Fact(topic, 0, first + begin + number, key, event.encode())
            for number, (key, event) in enumerate(told[begin : begin + size])
        ]
