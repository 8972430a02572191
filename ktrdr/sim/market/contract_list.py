"""The contracts of the generated market, and how a query finds them. Makes no bars."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache

from ktrdr.market.instruments import CURRENCIES, FUTURE_EXCHANGES, FUTURE_MONTHS, dated_future
from ktrdr.sim.market import special_stocks
from ktrdr.sim.market.contracts import CENT, Contract, Query, Tick
from ktrdr.sim.market.sessions import CME, CRYPTO, DAY_S, FOREX, US_INDICES, US_STOCKS

_STOCKS = """
AAPL Apple|NASDAQ|228|60000  MSFT Microsoft|NASDAQ|430|40000  GOOG Alphabet-C|NASDAQ|176|30000
GOOGL Alphabet-A|NASDAQ|175|40000  AMZN Amazon|NASDAQ|205|60000  NVDA NVIDIA|NASDAQ|141|300000
IWM iShares-Russell2000|ARCA|238|45000
TSLA Tesla|NASDAQ|340|150000  META Meta|NASDAQ|560|20000  NFLX Netflix|NASDAQ|880|6000
AMD AMD|NASDAQ|138|80000  INTC Intel|NASDAQ|24|90000  AVGO Broadcom|NASDAQ|165|30000
CSCO Cisco|NASDAQ|58|30000  ADBE Adobe|NASDAQ|515|5000  PEP PepsiCo|NASDAQ|160|9000
COST Costco|NASDAQ|930|3000  QCOM Qualcomm|NASDAQ|157|14000  JPM JPMorgan|NYSE|245|15000
BAC BankOfAmerica|NYSE|46|60000  WMT Walmart|NYSE|88|25000  V Visa|NYSE|310|9000
MA Mastercard|NYSE|520|4000  JNJ JohnsonJohnson|NYSE|155|12000  PG ProcterGamble|NYSE|172|11000
KO CocaCola|NYSE|63|22000  DIS Disney|NYSE|114|18000  XOM ExxonMobil|NYSE|120|25000
CVX Chevron|NYSE|161|12000  IBM IBM|NYSE|220|6000  GE GeneralElectric|NYSE|180|8000
BA Boeing|NYSE|150|15000  CAT Caterpillar|NYSE|390|4000  MCD McDonalds|NYSE|290|5000
PFE Pfizer|NYSE|26|60000  T ATT|NYSE|23|55000  ORCL Oracle|NYSE|190|15000
CRM Salesforce|NYSE|330|9000  BRK_B BerkshireHathaway-B|NYSE|475|6000
SPY SPDR-SP500|ARCA|595|90000  QQQ Invesco-QQQ|NASDAQ|505|60000
DIA SPDR-DowJones|ARCA|440|6000  GLD SPDR-Gold|ARCA|250|12000
TLT iShares-20y-Treasury|NASDAQ|90|60000
"""

_LISTED = {
    "GOOG": date(2004, 8, 19),
    "TSLA": date(2010, 6, 29),
    "META": date(2012, 5, 18),
    "V": date(2008, 3, 19),
    "MA": date(2006, 5, 25),
    "AVGO": date(2009, 8, 6),
}


def stock(symbol: str, exchange: str = "NASDAQ", **known: str) -> Contract:
    """A US stock or ETF; it need not be in the list: a replayed one may not be."""
    return Contract(
        symbol=symbol,
        sec_type="STK",
        exchange="SMART",
        currency=known.get("currency", "USD"),
        local_symbol=symbol,
        trading_class="NMS" if exchange == "NASDAQ" else symbol.replace(" ", ""),
        long_name=known.get("name", symbol),
        tick=CENT,
        calendar=US_STOCKS,
        base_price=float(known.get("price", "100")),
        base_volume=int(known.get("volume", "10000")),
        primary_exchange=exchange,
        valid_exchanges=("SMART", "AMEX", "NYSE", "CBOE", "ARCA", "BATS", "IEX", "NASDAQ"),
        listed=_LISTED.get(symbol, date(2000, 1, 3)),
        price_key=f"STK:{symbol}",
        what_to_show=("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK", "ADJUSTED_LAST"),
    )


@cache
def _stocks() -> dict[str, Contract]:
    table = {}
    for row in re.findall(r"(\S+) (\S+?)\|(\w+)\|(\d+)\|(\d+)", _STOCKS):
        symbol = row[0].replace("_", " ")
        name = row[1].replace("-", " ")
        table[symbol] = stock(symbol, row[2], name=name, price=row[3], volume=row[4])
    return table


# The approximate value of one unit in dollars; cross rates are quotients of these values.
_USD_VALUE = dict.fromkeys(CURRENCIES, 0.1) | {
    name: float(value)
    for name, value in (
        pair.split(":")
        for pair in (
            "USD:1 EUR:1.08 GBP:1.27 CHF:1.13 AUD:0.65 NZD:0.59 CAD:0.72 JPY:0.0066 CNH:0.138 "
            "CNY:0.138 HKD:0.128 SGD:0.745 MXN:0.05 HUF:0.0026 KRW:0.00072 INR:0.0118 THB:0.029 "
            "ILS:0.27 PLN:0.25 SAR:0.266 AED:0.272 RON:0.217 CZK:0.043 ZAR:0.055 TRY:0.029 "
            "DKK:0.145 TWD:0.031 RUB:0.011"
        ).split()
    )
}


def forex_pair(base: str, quote: str) -> Contract | None:
    """The pair on IDEALPRO; None when one of the two is not a known currency."""
    if base == quote or not {base, quote} <= CURRENCIES:
        return None
    price = _USD_VALUE[base] / _USD_VALUE[quote]
    return Contract(
        symbol=base,
        sec_type="CASH",
        exchange="IDEALPRO",
        currency=quote,
        local_symbol=f"{base}.{quote}",
        trading_class=f"{base}.{quote}",
        long_name=f"{base} in {quote}",
        tick=Tick(1, 200) if price > 20 else Tick(1, 20000),
        calendar=FOREX,
        base_price=price,
        base_volume=0,
        valid_exchanges=("IDEALPRO",),
        listed=date(2005, 3, 9),
        price_key=f"CASH:{base}{quote}",
        what_to_show=("MIDPOINT", "BID", "ASK", "BID_ASK"),
    )


_CRYPTO = {"BTC": (97000.0, 25), "ETH": (3400.0, 100), "LTC": (88.0, 100), "BCH": (480.0, 100)}


def crypto(symbol: str, price: float = 100.0, per_unit: int = 100) -> Contract:
    """A coin against the dollar. IB's volumes are fractions; these count whole coins."""
    return Contract(
        symbol=symbol,
        sec_type="CRYPTO",
        exchange="PAXOS",
        currency="USD",
        local_symbol=f"{symbol}.USD",
        trading_class=symbol,
        long_name=f"{symbol} in USD",
        tick=Tick(1, 4) if per_unit == 25 else CENT,
        calendar=CRYPTO,
        base_price=price,
        base_volume=40,
        valid_exchanges=("PAXOS", "ZEROHASH"),
        listed=date(2021, 6, 1),
        price_key=f"CRYPTO:{symbol}",
        extended_hours=True,
        what_to_show=("AGGTRADES", "MIDPOINT", "BID", "ASK", "BID_ASK"),
    )


_INDICES = {
    "SPX": ("S&P 500 Stock Index", "CBOE", 5950.0),
    "VIX": ("CBOE Volatility Index", "CBOE", 16.0),
    "NDX": ("NASDAQ 100 Stock Index", "NASDAQ", 20800.0),
    "INDU": ("Dow Jones Industrial Average", "CME", 44000.0),
    "RUT": ("Russell 2000 Stock Index", "RUSSELL", 2400.0),
}


def index(symbol: str) -> Contract | None:
    """An index, which is computed while the stock exchanges are open and is not traded."""
    if symbol not in _INDICES:
        return None
    name, exchange, level = _INDICES[symbol]
    return Contract(
        symbol=symbol,
        sec_type="IND",
        exchange=exchange,
        currency="USD",
        local_symbol=symbol,
        trading_class=symbol,
        long_name=name,
        tick=CENT,
        calendar=US_INDICES,
        base_price=level,
        base_volume=0,
        valid_exchanges=(exchange,),
        price_key=f"IND:{symbol}",
        what_to_show=("TRADES",),
    )


# Root → (IB's symbol, price, tick, multiplier, only March June September December).
_SPECS: dict[str, tuple[str, float, Tick, str, bool]] = {
    "ES": ("ES", 5950, Tick(1, 4), "50", True),
    "MES": ("MES", 5950, Tick(1, 4), "5", True),
    "NQ": ("NQ", 20800, Tick(1, 4), "20", True),
    "MNQ": ("MNQ", 20800, Tick(1, 4), "2", True),
    "RTY": ("RTY", 2400, Tick(1, 10), "50", True),
    "M2K": ("M2K", 2400, Tick(1, 10), "5", True),
    "YM": ("YM", 44000, Tick(1, 1), "5", True),
    "MYM": ("MYM", 44000, Tick(1, 1), "0.5", True),
    "6A": ("AUD", 0.65, Tick(5, 100000), "100000", True),
    "6B": ("GBP", 1.27, Tick(1, 10000), "62500", True),
    "6C": ("CAD", 0.72, Tick(5, 100000), "100000", True),
    "6E": ("EUR", 1.08, Tick(5, 100000), "125000", True),
    "6J": ("JPY", 0.0066, Tick(5, 10000000), "12500000", True),
    "6M": ("MXP", 0.05, Tick(1, 100000), "500000", True),
    "6N": ("NZD", 0.59, Tick(5, 100000), "100000", True),
    "6S": ("CHF", 1.13, Tick(5, 100000), "125000", True),
    "ZB": ("ZB", 118, Tick(1, 32), "1000", True),
    "UB": ("UB", 125, Tick(1, 32), "1000", True),
    "ZN": ("ZN", 110, Tick(1, 64), "1000", True),
    "TN": ("TN", 114, Tick(1, 64), "1000", True),
    "ZF": ("ZF", 107, Tick(1, 128), "1000", True),
    "ZT": ("ZT", 103, Tick(1, 256), "2000", True),
    "CL": ("CL", 70, CENT, "1000", False),
    "MCL": ("MCL", 70, CENT, "100", False),
    "NG": ("NG", 3, Tick(1, 1000), "10000", False),
    "GC": ("GC", 2650, Tick(1, 10), "100", False),
    "MGC": ("MGC", 2650, Tick(1, 10), "10", False),
    "SI": ("SI", 31, Tick(5, 1000), "5000", False),
    "HG": ("HG", 4.1, Tick(5, 10000), "25000", False),
}


def future(root: str, year: int, month: int) -> Contract | None:
    """A dated future; None for a root or month that is not listed."""
    return _future(root, FUTURE_EXCHANGES[root], year, month) if root in FUTURE_EXCHANGES else None


def _future(root: str, exchange: str, year: int, month: int) -> Contract | None:
    symbol, price, tick, multiplier, quarterly = _SPECS.get(root, (root, 100, CENT, "100", False))
    if quarterly and month % 3:
        return None
    expiry = third_friday(year, month)
    return Contract(
        symbol=symbol,
        sec_type="FUT",
        exchange=exchange,
        currency="USD",
        local_symbol=f"{root}{FUTURE_MONTHS[month - 1]}{year % 10}",
        trading_class=root,
        long_name=f"{root} future, {exchange}",
        tick=tick,
        calendar=CME,
        base_price=price,
        base_volume=900,
        valid_exchanges=(exchange,),
        multiplier=multiplier,
        expiry=expiry,
        listed=expiry - timedelta(days=364),
        price_key=f"FUT:{root}",
        extended_hours=True,
    )


def third_friday(year: int, month: int) -> date:
    """The expiry of index futures, and of all futures here."""
    first = date(year, month, 1)
    return first + timedelta(days=(4 - first.weekday()) % 7 + 14)


def future_named(local_symbol: str, today: date) -> Contract | None:
    """The future of a name such as `6EH4`, in the year of that digit nearest to `today`."""
    dated = dated_future(local_symbol)
    if dated is None:
        return None
    modulus = 10 ** len(dated.year)
    years = range(today.year - modulus // 2 + 1, today.year + modulus // 2 + 1)
    year = next(y for y in years if y % modulus == int(dated.year))
    return future(dated.root, year, FUTURE_MONTHS.index(dated.month) + 1)


def front_future(root: str, today: date) -> Contract:
    """The future of `root` that expires next, in a week or later."""
    return min(
        (c for c in _futures_of(root, today) if c.expiry and c.expiry >= today + timedelta(days=7)),
        key=lambda c: c.expiry or date.max,
    )


def continuous(root: str, today: date) -> Contract:
    """CONTFUT: the front month's prices without end, and the name of the current front month."""
    front = front_future(root, today)
    return replace(front, sec_type="CONTFUT", listed=date(2005, 1, 3))


def _futures_of(root: str, today: date) -> list[Contract]:
    """The months of a root that trade on `today`."""
    months = ((today.year + y, m) for y in (0, 1) for m in range(1, 13))
    dated = (future(root, year, month) for year, month in months)
    return [c for c in dated if c and c.expiry and c.listed <= today <= c.expiry]


@cache
def _roots(symbol: str) -> tuple[str, ...]:
    """The roots for `symbol`, which is their own name or IB's (`EUR` for 6E)."""
    return tuple(r for r in FUTURE_EXCHANGES if symbol in (r, _SPECS[r][0] if r in _SPECS else r))


def find(query: Query, today: date) -> list[Contract]:
    """Every contract that matches, several when the query is ambiguous.

    An expired future is found only if the query includes expired ones (TWS API,
    `Contract.includeExpired`).
    """
    return [
        c
        for c in _candidates(query, today)
        if c.fits(query) and (query.include_expired or not c.expiry or c.expiry >= today)
    ]


def _candidates(query: Query, today: date) -> list[Contract]:
    if query.con_id:
        named = _by_con_id(query, today)
        return [named] if named else []
    match query.sec_type:
        case "STK":
            symbol = query.symbol or query.local_symbol
            found = _stocks().get(symbol)
            if found is None:
                return special_stocks.stocks(symbol, stock(symbol), today)
        case "IND":
            found = index(query.symbol or query.local_symbol)
        case "CONTFUT":
            return [continuous(r, today) for r in _roots(query.symbol or query.trading_class)]
        case "CASH":
            base, _, quote = query.local_symbol.partition(".")
            found = forex_pair(query.symbol or base, query.currency or quote)
        case "CRYPTO":
            symbol = query.symbol or query.local_symbol.partition(".")[0]
            found = crypto(symbol, *_CRYPTO[symbol]) if symbol in _CRYPTO else None
        case "FUT":
            return _dated_futures(query, today)
        case _:
            found = None
    return [found] if found else []


def _dated_futures(query: Query, today: date) -> list[Contract]:
    """Futures by local symbol or by symbol."""
    if special_stocks.is_future(query.symbol or query.local_symbol or query.trading_class):
        return _special_futures(today.year)
    if query.local_symbol:
        found = future_named(query.local_symbol, today)
        return [found] if found else []
    return _by_month(query, today)


def _by_month(query: Query, today: date) -> list[Contract]:
    """Futures by symbol, of the requested month or of all months that trade now."""
    roots = _roots(query.symbol or query.trading_class)
    if not query.expiry:
        return [c for root in roots for c in _futures_of(root, today)]
    if not re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])(\d\d)?", query.expiry):
        return []
    year, month = int(query.expiry[:4]), int(query.expiry[4:6])
    return [c for root in roots if (c := future(root, year, month))]


@cache
def _special_futures(this_year: int) -> list[Contract]:
    """The special futures of all months of a year and the next."""
    months = ((this_year + y, m) for y in (0, 1) for m in range(1, 13))
    plain = (_future(special_stocks.FUTURE, "CME", year, month) for year, month in months)
    return [c for one in plain if one for c in special_stocks.futures(one)]


def _by_con_id(query: Query, today: date) -> Contract | None:
    return (
        _fixed().get(query.con_id)
        or _dated(today.year).get(query.con_id)
        or _moving(today).get(query.con_id)
    )


@cache
def _fixed() -> dict[int, Contract]:
    """The contracts that do not expire, by id."""
    pairs = (forex_pair(b, q) for b in CURRENCIES for q in CURRENCIES)
    coins = (crypto(name, *spec) for name, spec in _CRYPTO.items())
    indices = (index(name) for name in _INDICES)
    return {c.con_id: c for c in (*_stocks().values(), *pairs, *coins, *indices) if c}


@cache
def _moving(today: date) -> dict[int, Contract]:
    """The contracts that depend on the day, by id: continuous futures and special ones."""
    futures = (continuous(root, today) for root in FUTURE_EXCHANGES)
    stocks = (
        c
        for symbol in special_stocks.SYMBOLS
        for c in special_stocks.stocks(symbol, stock(symbol), today)
    )
    return {c.con_id: c for c in (*futures, *stocks, *_special_futures(today.year))}


@cache
def _dated(this_year: int) -> dict[int, Contract]:
    """The futures of several years around `this_year`, by id."""
    dated = (
        future(root, year, month)
        for root in FUTURE_EXCHANGES
        for year in range(this_year - 4, this_year + 6)
        for month in range(1, 13)
    )
    return {c.con_id: c for c in dated if c}


def today(now: datetime) -> date:
    """The date in UTC, which is exact enough for the years and months of futures."""
    return datetime.fromtimestamp(int(now.timestamp()) // DAY_S * DAY_S, UTC).date()
