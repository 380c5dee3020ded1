"""Personal data to plant, made with valid checksums from seeded random digits, and numbers that are none.

None of it is anybody's: digits are random, names and texts are made up.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import phonenumbers
from stdnum import ean, iban, luhn, verhoeff
from stdnum.pl import nip, pesel

_DEVANAGARI = str.maketrans("0123456789", "०१२३४५६७८९")
_TAMIL = str.maketrans("0123456789", "௦௧௨௩௪௫௬௭௮௯")


@dataclass(frozen=True)
class Planted:
    """A text with one piece of personal data, or (kind "") with none."""

    kind: str
    language: str
    text: str
    piece: str


class Planter:
    """Makes texts with personal data, and texts that only look so."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def personal(self) -> Iterator[Planted]:
        """One text of each form."""
        yield from self._polish_numbers()
        yield from self._indian_numbers()
        yield from self._money()
        yield from self._electronic()
        yield from self._phones()
        yield from self._addresses()

    def others(self) -> Iterator[Planted]:
        """Orders, dates, books, amounts, numbers with wrong checksums and the like."""
        number, choose = self._digits, self._rng.choice
        book = f"978{number(9)}"
        for language, text in [
            ("en", f"Order no. {number(10, '6789')} was shipped."),
            ("en", f"Your invoice {number(10, '789')} is ready, ticket {number(11)}."),
            ("pl", f"Zamówienie nr {number(9, '567')} wysłano."),
            ("pl", f"Faktura nr {number(10, '123456789')} z dnia 12.03.2021."),
            ("hi", f"ऑर्डर {number(10, '6789')} भेज दिया गया।"),
            ("hi", f"जनसंख्या {number(9, '123456789')} है, वर्ष 2011 में।"),
            ("de", f"Bestellnummer {number(8)}, Artikelnummer {number(6)}."),
            ("en", "The meeting is on 2024-05-17 12:30 and ends 2024-05-18."),
            ("pl", "Urodzony 17.05.1984 r., zmarł 03-11-2020."),
            ("en", f"ISBN 978-83-240-{number(4)}-{number(1)} in shops"),
            ("en", f"the book {book}{ean.calc_check_digit(book)} sold well"),
            ("pl", f"Miasto ma {choose('123456789')} {number(3)} {number(3)} mieszkańców."),
            ("pl", f"Kwota {number(3, '123456789')} {number(3)} {number(3)} złotych."),
            ("pl", f"Zapłacono 1 234 567,{number(2)} zł w {number(2)} ratach."),
            ("en", f"The budget is {number(3, '123')},{number(3)},{number(3)} rupees."),
            ("hi", f"बजट {number(2, '12')},{number(2)},{number(2)},{number(3)} रुपये था।"),
            ("en", f"Pi is 3.14159265{number(6)}."),
            ("pl", f"PESEL {_spoilt(self._pesel())} jest błędny."),
            ("en", f"Aadhaar {_spoilt(self._aadhaar())} is invalid."),
            ("en", f"Card {_spoilt(self._card('4', 16))} fails."),
            ("de", f"IBAN {_spoilt(self._iban('DE', 18))} ist falsch."),
            ("en", f"version 2.14.{number(2)}.{number(1)} and local 192.168.{number(1)}.{number(1)}"),
            ("en", "@home with the family, at 5 pm, see the note @ the door."),
            ("pl", f"ul. to skrót, a art. {number(2)} ustawy mówi o 1989."),
            ("en", f"Chapter {number(2)}, pages 123-145, ran 1939-1945."),
            ("en", f"tracking id {number(12, '23456789')} and serial {number(16, '4')}"),
            ("en", "In 1850 Green died on the Road to 1900."),
            ("de", "Der Weg 3 Jahre später war die Straße 2 Meter breiter."),
            ("en", f"ABCDE{number(4)} is a part, FGHIJ{number(4)}K another."),
            ("en", f"hash 4f{number(10)}e and key x{number(12)}"),
        ]:
            yield Planted("", language, text, "")

    def _polish_numbers(self) -> Iterator[Planted]:
        number = self._pesel()
        yield Planted("pesel", "pl", f"Pacjent Jan, PESEL {number}, przyjęty wczoraj.", number)
        number = self._pesel()
        yield Planted("pesel", "en", f"The patient's number was {number}.", number)
        number = self._nip()
        yield Planted("nip", "pl", f"Firma Kowal, NIP: {number}.", number)
        number = _grouped(self._nip(), "-", 3, 3, 2, 2)
        yield Planted("nip", "pl", f"Sprzedawca ma numer {number} w rejestrze.", number)

    def _indian_numbers(self) -> Iterator[Planted]:
        number = self._aadhaar()
        yield Planted("aadhaar", "hi", f"मेरा आधार नंबर {number} है।", number)
        number = _grouped(self._aadhaar(), " ", 4, 4, 4)
        yield Planted("aadhaar", "en", f"Her Aadhaar is {number}, issued in Pune.", number)
        number = _grouped(self._aadhaar(), " ", 4, 4, 4).translate(_DEVANAGARI)
        yield Planted("aadhaar", "hi", f"आधार {number} दर्ज करें", number)
        number = _grouped(self._aadhaar(), "-", 4, 4, 4)
        yield Planted("aadhaar", "ta", f"ஆதார் எண் {number} ஆகும்.", number)
        letters = "".join(self._rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(3))
        number = f"{letters}P{self._rng.choice('ABCDEFGHIJKL')}{self._rng.randint(1, 9999):04d}K"
        yield Planted("pan", "en", f"PAN {number} was quoted on the form.", number)

    def _money(self) -> Iterator[Planted]:
        number = self._card(self._rng.choice(["4", "51", "55"]), 16)
        yield Planted("card", "en", f"I paid with {number} last night.", number)
        number = _grouped(self._card("4", 16), " ", 4, 4, 4, 4)
        yield Planted("card", "pl", f"Numer karty: {number}.", number)
        number = _grouped(self._card("53", 16), "-", 4, 4, 4, 4)
        yield Planted("card", "de", f"Die Karte {number} ist gesperrt.", number)
        number = _grouped(self._card("37", 15), " ", 4, 6, 5)
        yield Planted("card", "en", f"The card was {number}", number)
        number = self._iban("PL", 24)
        yield Planted("iban", "pl", f"Wpłaty na konto {number} proszę.", number)
        number = _grouped(self._iban("PL", 24), " ", *[4] * 7)
        yield Planted("iban", "pl", f"Konto: {number}, tytułem opłaty.", number)
        number = _grouped(self._iban("DE", 18), " ", 4, 4, 4, 4, 4, 2)
        yield Planted("iban", "de", f"IBAN {number} BEI DER BANK.", number)

    def _electronic(self) -> Iterator[Planted]:
        name = self._rng.choice(["jan.kowalski", "anna_n", "raj.kumar92", "o-brien", "m.żak"])
        domain = self._rng.choice(["example.com", "poczta.example.pl", "mail.example.in", "uni-köln.example"])
        address = f"{name}@{domain}"
        yield Planted("email", "en", f"Write to <{address}>, please.", address)
        yield Planted("email", "zh", f"请发邮件给{address}或打电话", address)
        yield Planted("email", "ko", f"{address}으로 보내세요", address)
        address = f"{name} [at] {domain.replace('.', ' [dot] ')}"
        yield Planted("email", "en", f"Contact: {address}", address)
        address = f"{name}(małpa){domain}"
        yield Planted("email", "pl", f"Adres: {address}, albo telefon", address)
        name, handle = self._rng.choice(["ravi", "sunita.k"]), self._rng.choice(["okhdfcbank", "ybl", "upi"])
        address = f"{name}{self._digits(2)}@{handle}"
        yield Planted("email", "hi", f"यूपीआई {address} पर भेजें", address)
        address = f"{self._rng.choice([8, 52, 93, 185])}.{self._rng.randint(1, 250)}.{self._rng.randint(1, 250)}.7"
        yield Planted("ip", "en", f"Login from {address} was refused.", address)

    def _phones(self) -> Iterator[Planted]:
        mobile = self._valid("IN", lambda: self._rng.choice(["98", "99", "70", "88", "63"]) + self._digits(8))
        parts = f"{mobile[:5]} {mobile[5:]}"
        polish = self._valid("PL", lambda: self._rng.choice(["60", "51", "79", "88", "66"]) + self._digits(7))
        threes = _grouped(polish, " ", 3, 3, 3)
        warsaw = self._valid("PL", lambda: f"22{self._rng.choice('4678')}{self._digits(6)}")
        mumbai = self._valid("IN", lambda: f"0222{self._digits(7)}")
        berlin = self._valid("DE", lambda: f"030{self._digits(8, '23456789')}")
        for language, text, piece in [
            ("en", "Reach us on {} today.", f"+91 {parts}"),
            ("en", "Reach us on {} today.", f"+91-{mobile}"),
            ("te", "{} కు కాల్ చేయండి", f"+91{mobile}"),
            ("hi", "मोबाइल: {}", mobile),
            ("hi", "फ़ोन {} पर बात करें।", mobile.translate(_DEVANAGARI)),
            ("ta", "தொலைபேசி {}", mobile.translate(_TAMIL)),
            ("en", "Call {} after six.", parts),
            ("en", "My number is {}.", f"{mobile[:5]}-{mobile[5:]}"),
            ("en", "My number is {}, ask for Ravi.", mobile),
            ("pl", "Numer {} działa.", f"+48 {threes}"),
            ("pl", "Pytaj: {}!", polish[:3] + "-" + polish[3:6] + "-" + polish[6:]),
            ("pl", "tel. {}", threes),
            ("pl", "Zadzwoń: {}, po szóstej.", polish),
            ("pl", "Dzwoń {}", f"0048 {threes}"),
            ("pl", "Recepcja: tel. {}.", _grouped(warsaw, " ", 2, 3, 2, 2)),
            ("pl", "Biuro {}, czynne do 16.", f"(22) {_grouped(warsaw[2:], ' ', 3, 2, 2)}"),
            ("en", "Office phone {}, Mumbai.", f"022-{mumbai[3:7]} {mumbai[7:]}"),
            ("de", "Büro: {}.", f"+49 30 {berlin[3:]}"),
            ("de", "Telefon {}, abends.", f"030 / {berlin[3:]}"),
        ]:
            yield Planted("phone", language, text.format(piece), piece)

    def _addresses(self) -> Iterator[Planted]:
        number, choose = self._rng.randint, self._rng.choice
        street = choose(
            ["ul. Marszałkowska", "ul. Jana Pawła II", "al. Niepodległości", "os. Zielone", "ul. 11 Listopada"]
        )
        town = choose(["Warszawa", "Nowy Targ"])
        piece = f"{street} {number(1, 200)}/{number(1, 99)}, {number(10, 99)}-{number(100, 999)} {town}"
        yield Planted("address", "pl", f"Mieszka przy {piece} od lat.", piece)
        piece = f"ul. Długa {number(1, 99)}"
        yield Planted("address", "pl", f"Spotkajmy się: {piece}.", piece)
        piece = (
            f"{choose(['Schillerstraße', 'Bahnhofstr.', 'Lindenallee'])} {number(1, 99)}, {number(10000, 99999)} Jena"
        )
        yield Planted("address", "de", f"Sie wohnt in der {piece} im Hof.", piece)
        street = f"{choose(['Baker', 'Green Park', 'Mahatma Gandhi'])} {choose(['Street', 'Road', 'Avenue'])}"
        piece = f"{number(1, 400)} {street}"
        yield Planted("address", "en", f"He lived at {piece} for years.", piece)
        piece = f"Flat No. {number(1, 99)}, Shanti Nagar, Andheri East, Mumbai - 4000{number(10, 99)}"
        yield Planted("address", "en", f"Deliver to {piece} by noon.", piece)
        piece = f"मकान नंबर {number(1, 99)}, गाँधी नगर, जयपुर - 3020{number(10, 99)}"
        yield Planted("address", "hi", f"पता: {piece} है।", piece)

    def _digits(self, count: int, first: str = "0123456789") -> str:
        return self._rng.choice(first) + "".join(self._rng.choice("0123456789") for _ in range(count - 1))

    def _pesel(self) -> str:
        year, month = self._rng.randint(1940, 2009), self._rng.randint(1, 12)
        month += 20 if year >= 2000 else 0
        body = f"{year % 100:02d}{month:02d}{self._rng.randint(1, 28):02d}{self._digits(4)}"
        return str(body + pesel.calc_check_digit(body))

    def _nip(self) -> str:
        return next(number for _ in range(1000) if nip.is_valid(number := self._digits(10, "12345678")))

    def _aadhaar(self) -> str:
        body = self._digits(11, "23456789")
        return str(body + verhoeff.calc_check_digit(body))

    def _card(self, prefix: str, length: int) -> str:
        body = prefix + self._digits(length - 1 - len(prefix))
        return str(body + luhn.calc_check_digit(body))

    def _iban(self, country: str, length: int) -> str:
        body = self._digits(length)
        return f"{country}{iban.calc_check_digits(f'{country}00{body}')}{body}"

    def _valid(self, region: str, make: object) -> str:
        assert callable(make)
        numbers = (str(make()) for _ in range(1000))
        return next(each for each in numbers if phonenumbers.is_valid_number(phonenumbers.parse(each, region)))


def _grouped(digits: str, between: str, *sizes: int) -> str:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return between.join(digits[start : start + size] for start, size in zip(starts, sizes, strict=True))


def _spoilt(number: str) -> str:
    """The number with a wrong last digit."""
    return number[:-1] + str((int(number[-1]) + 1) % 10)
