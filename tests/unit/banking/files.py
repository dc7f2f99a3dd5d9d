"""Bank statements and notifications for tests, in the shapes that banks send."""

from __future__ import annotations

from collections.abc import Sequence

ACCOUNT = "NL91ABNA0417164300"


def transaction(
    amount: str | None = "100.00",
    *,
    text: str = "",
    structured: str = "",
    end_to_end: str = "NOTPROVIDED",
    reference: str | None = None,
    payer: str = "Provider GmbH",
    old: bool = False,
    currency: str = "EUR",
    direction: str | None = None,
) -> str:
    """A TxDtls; `old` puts amount and payer where version .02 has them."""
    told = f"<AcctSvcrRef>{reference}</AcctSvcrRef>" if reference else ""
    amounts = f'<Amt Ccy="{currency}">{amount}</Amt>' if amount else ""
    if amount and old:
        amounts = f"<AmtDtls><TxAmt>{amounts}</TxAmt></AmtDtls>"
    name = f"<Nm>{payer}</Nm>" if old else f"<Pty><Nm>{payer}</Nm></Pty>"
    lines = "".join(f"<Ustrd>{text[at : at + 140]}</Ustrd>" for at in range(0, len(text), 140))
    if structured:
        lines += f"<Strd><CdtrRefInf><Ref>{structured}</Ref></CdtrRefInf></Strd>"
    ways = f"<CdtDbtInd>{direction}</CdtDbtInd>" if direction else ""
    return (
        f"<TxDtls><Refs>{told}<EndToEndId>{end_to_end}</EndToEndId></Refs>{amounts}{ways}"
        f"<RltdPties><Dbtr>{name}</Dbtr>"
        "<DbtrAcct><Id><IBAN>DE89370400440532013000</IBAN></Id></DbtrAcct></RltdPties>"
        f"<RmtInf>{lines}</RmtInf></TxDtls>"
    )


def booked(
    amount: str = "100.00",
    *transactions: str,
    reference: str | None = "BANK-1",
    direction: str = "CRDT",
    reversal: bool = False,
    status: str = "BOOK",
    old: bool = False,
    currency: str = "EUR",
    on: str = "2026-04-10",
) -> str:
    """An Ntry with its transactions."""
    told = f"<AcctSvcrRef>{reference}</AcctSvcrRef>" if reference else ""
    turned = "<RvslInd>true</RvslInd>" if reversal else ""
    state = status if old else f"<Cd>{status}</Cd>"
    details = f"<NtryDtls>{''.join(transactions)}</NtryDtls>" if transactions else ""
    return (
        f'<Ntry><Amt Ccy="{currency}">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd>{turned}'
        f"<Sts>{state}</Sts><BookgDt><Dt>{on}</Dt></BookgDt><ValDt><DtTm>{on}T00:00:00</DtTm></ValDt>"
        f"{told}{details}</Ntry>"
    )


def document(
    entries: Sequence[str], message: str = "camt.053.001.08", account: str = ACCOUNT, head: str = ""
) -> bytes:
    """A whole file."""
    outer, inner = (
        ("BkToCstmrStmt", "Stmt") if message.startswith("camt.053") else ("BkToCstmrDbtCdtNtfctn", "Ntfctn")
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}'
        f'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:{message}"><{outer}>'
        f"<GrpHdr><MsgId>M1</MsgId></GrpHdr><{inner}><Id>S1</Id>"
        f"<Acct><Id><IBAN>{account}</IBAN></Id></Acct>{''.join(entries)}</{inner}></{outer}></Document>"
    ).encode()
