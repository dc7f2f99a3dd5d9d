"""ISO 20022 bank statements (camt.053) and notifications (camt.054): the payments that were booked in.

Read are the elements that all versions since .02 share; what moved between versions (the status of an entry,
the name of a payer, a transaction's amount) is read at each of its places. A file is untrusted: document type
declarations are refused, nothing is fetched, and its size is bounded.

Each payment has an id made of the account and the account servicer's reference, so that one that comes in
several files (a notification and the day's statement, or the same file again) is the same payment.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import msgspec
from lxml import etree

MAX_BYTES = 64 << 20
_NAMESPACE = re.compile(r"urn:iso:std:iso:20022:tech:xsd:(camt\.05[34]\.001\.\d{2})")


class CamtError(ValueError):
    """The file is no camt.053 or camt.054 that can be read; the message says why."""


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """One booked credit, or the reversal of one (then its amount is negative)."""

    id: str
    account: str
    servicer_reference: str | None
    amount: Decimal
    currency: str
    booked_on: date
    """When it was booked, else its value date, else when the file was made."""
    value_on: date | None
    payer: str | None
    payer_account: str | None
    end_to_end_id: str | None
    remittance: tuple[str, ...]
    """Structured references first, then the unstructured lines."""
    message: str
    """The kind and version of the file: camt.053.001.08."""


def read(data: bytes) -> list[Payment]:
    """The payments of a file, in its order, each once. Raises CamtError."""
    if len(data) > MAX_BYTES:
        raise CamtError(f"the file has {len(data)} bytes; {MAX_BYTES} are read at most")
    try:
        payments = list(_read(data))
    except etree.XMLSyntaxError as error:
        raise CamtError(f"this is no XML that can be read: {error.msg}") from None
    return list({payment.id: payment for payment in payments}.values())


def _read(data: bytes) -> Iterator[Payment]:
    message, account = "", ""
    created: date | None = None
    alike: Counter[str] = Counter()
    walk = etree.iterparse(
        io.BytesIO(data),
        events=("start", "end"),
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    for event, element in walk:
        name = _local(element)
        if not message:
            message = _message(element)
        if event == "start":
            continue
        parent = element.getparent()
        inside = "" if parent is None else _local(parent)
        if name == "CreDtTm" and inside in ("GrpHdr", "Stmt", "Ntfctn"):
            created = _day(element, element.text)
        elif name == "Acct" and inside in ("Stmt", "Ntfctn"):
            account = _account(element) or ""
        elif name == "Ntry":
            yield from _payments(element, account, message, created, alike)
            element.clear()
    if not message:
        raise CamtError("the file is empty")


def _local(element: etree._Element) -> str:
    """An element's name without its namespace, which may be one that XML does not allow."""
    return str(element.tag).rpartition("}")[2]


def _message(root: etree._Element) -> str:
    """The kind and version that the root element tells."""
    if root.getroottree().docinfo.doctype:
        raise CamtError("a document type declaration is not allowed")
    match = _NAMESPACE.fullmatch(str(root.tag).removeprefix("{").partition("}")[0])
    if _local(root) != "Document" or not match:
        raise CamtError("this is neither a camt.053 nor a camt.054 document")
    return match[1]


def _payments(
    entry: etree._Element, account: str, message: str, created: date | None, alike: Counter[str]
) -> Iterator[Payment]:
    """The payments that one entry holds: itself, or each of its transactions."""
    status = _text(entry, "Sts/Cd") or _text(entry, "Sts")
    if status != "BOOK":
        return
    if _sign(entry) == 0:
        return
    account = account or "unknown"
    details = entry.findall("{*}NtryDtls/{*}TxDtls")
    if len(details) > 1 and any(_amount_of(detail) is None for detail in details):
        details = [entry]  # a batch that does not say what is whose: one payment, with no remittance
    reference = _text(entry, "AcctSvcrRef")
    for number, detail in enumerate(details or [entry]):
        single = len(details) <= 1
        sign = _sign(entry) if single or _text(detail, "CdtDbtInd") is None else _sign(detail, entry)
        if sign == 0:
            continue
        amount, currency = _amount(entry) if single else _amount(detail)
        own = _text(detail, "Refs/AcctSvcrRef")
        end_to_end = _given(_text(detail, "Refs/EndToEndId"))
        other = _given(_text(detail, "Refs/TxId")) or _given(_text(detail, "Refs/InstrId"))
        transaction = end_to_end or other or str(number)
        identity = reference or own
        if not single:
            identity = own or (reference and f"{reference}#{transaction}")
        booked, value = _date(entry, "BookgDt"), _date(entry, "ValDt")
        day = booked or value or created
        if day is None:
            raise CamtError(f"line {entry.sourceline}: the entry has no date")
        remittance = tuple(_remittance(detail))
        if not identity:
            # Nothing names it: two that are alike in a file are two, and the same two when it comes again.
            likeness = "|".join(map(str, (booked, value, amount, currency, end_to_end, other, *remittance)))
            alike[likeness] += 1
            identity = f"={likeness}={alike[likeness]}"
        payer = _party(detail, "Dbtr") or _party(detail, "UltmtDbtr")
        yield Payment(
            # A reversal is no payment come again, even under the same reference.
            id=hashlib.blake2b(f"{account}\n{identity}\n{sign}".encode(), digest_size=16).hexdigest(),
            account=account,
            servicer_reference=own if not single and own else reference or own,
            amount=sign * amount,
            currency=currency,
            booked_on=day,
            value_on=value,
            payer=payer,
            payer_account=_account_id(detail, "RltdPties/DbtrAcct"),
            end_to_end_id=end_to_end,
            remittance=remittance,
            message=message,
        )


def _sign(element: etree._Element, entry: etree._Element | None = None) -> int:
    """1: money came; -1: money that had come went back; 0: none of these."""
    direction = _text(element, "CdtDbtInd")
    reversal = _text(element if entry is None else entry, "RvslInd") in ("true", "1")
    if direction == "CRDT":
        return 0 if reversal else 1
    return -1 if direction == "DBIT" and reversal else 0


def _amount(element: etree._Element) -> tuple[Decimal, str]:
    """Amount and currency. Raises CamtError where there are none, or what stands there is none."""
    found = _amount_of(element)
    if found is None:
        raise CamtError(f"line {element.sourceline}: there is no amount")
    text, currency = (found.text or "").strip(), found.get("Ccy") or ""
    if not re.fullmatch(r"\d{1,13}(\.\d{0,5})?", text):
        raise CamtError(f"line {found.sourceline}: {text[:40]!r} is no amount")
    if not re.fullmatch("[A-Z]{3}", currency):
        raise CamtError(f"line {found.sourceline}: {currency[:10]!r} is no currency")
    return Decimal(text), currency


def _amount_of(element: etree._Element) -> etree._Element | None:
    """The amount of an entry or a transaction, wherever its version has it."""
    for path in ("Amt", "AmtDtls/TxAmt/Amt", "AmtDtls/InstdAmt/Amt"):
        found = element.find(_path(path))
        if found is not None:
            return found
    return None


def _remittance(detail: etree._Element) -> Iterator[str]:
    for found in detail.findall(_path("RmtInf/Strd")):
        for path in ("CdtrRefInf/Ref", "RfrdDocInf/Nb", "AddtlRmtInf"):
            for each in found.findall(_path(path)):
                if text := (each.text or "").strip():
                    yield text
    for each in detail.findall(_path("RmtInf/Ustrd")):
        if text := (each.text or "").strip():
            yield text


def _party(detail: etree._Element, role: str) -> str | None:
    return _text(detail, f"RltdPties/{role}/Pty/Nm") or _text(detail, f"RltdPties/{role}/Nm")


def _account_id(element: etree._Element, path: str) -> str | None:
    found = element.find(_path(path))
    return None if found is None else _account(found)


def _account(element: etree._Element) -> str | None:
    iban = _text(element, "Id/IBAN") or _text(element, "Id/Othr/Id")
    return iban and iban.replace(" ", "").upper()


def _date(element: etree._Element, name: str) -> date | None:
    text = _text(element, f"{name}/Dt") or _text(element, f"{name}/DtTm")
    return None if text is None else _day(element, text)


def _day(element: etree._Element, text: str | None) -> date:
    plain = (text or "").strip()
    try:
        return date.fromisoformat(plain[:10])
    except ValueError:
        raise CamtError(f"line {element.sourceline}: {plain[:30]!r} is no date") from None


def _given(text: str | None) -> str | None:
    """An identifier that says something: banks fill in NOTPROVIDED where there is none."""
    return None if text is None or text.replace(" ", "").upper() == "NOTPROVIDED" else text


def _text(element: etree._Element, path: str) -> str | None:
    found = element.find(_path(path))
    return ((found.text or "").strip() or None) if found is not None else None


def _path(path: str) -> str:
    return "/".join(f"{{*}}{step}" for step in path.split("/"))
