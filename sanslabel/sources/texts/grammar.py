"""Numbers in words, dates and simple clauses, in English and French."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
UNITS = (
    *("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze", "treize"),
    *("quatorze", "quinze", "seize", "dix-sept", "dix-huit", "dix-neuf"),
)
DIZAINES = ("", "", "vingt", "trente", "quarante", "cinquante", "soixante", "soixante", "quatre-vingt", "quatre-vingt")
ORDINALS = (
    *("", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    *("twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"),
    *("twentieth", "twenty-first", "twenty-second", "twenty-third", "twenty-fourth", "twenty-fifth", "twenty-sixth"),
    *("twenty-seventh", "twenty-eighth", "twenty-ninth", "thirtieth", "thirty-first"),
)
WEEKDAYS = (
    ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    ("lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"),
)
MONTHS = (
    (
        *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
        *("November", "December"),
    ),
    (
        *("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre"),
        "décembre",
    ),
)
LARGEST = 10**9 - 1
"""the largest number that can be put into words"""


def english(number: int) -> str:
    """Returns a number in English words, British and without commas: "one hundred and five"."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    if number < 1000:
        rest = f" and {english(number % 100)}" if number % 100 else ""
        return f"{ONES[number // 100]} hundred{rest}"
    size, name = (1000, "thousand") if number < 10**6 else (10**6, "million")
    rest = number % size
    link = " and " if rest < 100 else " "
    return f"{english(number // size)} {name}" + (f"{link}{english(rest)}" if rest else "")


def french(number: int, last: bool = True) -> str:
    """Returns a number in French words, in the spelling before 1990: "quatre-vingt-dix-sept", "deux cents".

    last: False before "mille", where vingt and cent take no s.
    """
    if number < 20:
        return UNITS[number]
    if number < 100:
        tens, one = divmod(number, 10)
        if tens in (7, 9):  # soixante-dix, quatre-vingt-dix
            one += 10
        if number == 80:
            return "quatre-vingts" if last else "quatre-vingt"
        if not one:
            return DIZAINES[tens]
        link = " et " if one in (1, 11) and tens < 8 else "-"
        return f"{DIZAINES[tens]}{link}{UNITS[one]}"
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        begun = "cent" if hundreds == 1 else f"{UNITS[hundreds]} cent"
        if not rest:
            return f"{begun}s" if hundreds > 1 and last else begun
        return f"{begun} {french(rest, last)}"
    if number < 10**6:
        thousands, rest = divmod(number, 1000)
        begun = "mille" if thousands == 1 else f"{french(thousands, last=False)} mille"
    else:
        millions, rest = divmod(number, 10**6)
        begun = f"{french(millions)} million{'s' if millions > 1 else ''}"
    return f"{begun} {french(rest, last)}" if rest else begun


def english_year(year: int) -> str:
    """Returns a year from 1100 to 1999 as it is read: "nineteen hundred", "nineteen oh-five", "nineteen ten"."""
    century, rest = divmod(year, 100)
    ending = "hundred" if not rest else english(rest) if rest >= 10 else f"oh-{ONES[rest]}"
    return f"{english(century)} {ending}"


def date_in_words(day: date) -> tuple[str, str]:
    """Returns a date in both languages: "Friday the first of May, nineteen ten" and "le vendredi premier mai …"."""
    weekdays, months = (names[day.weekday()] for names in WEEKDAYS), (names[day.month - 1] for names in MONTHS)
    (weekday, jour), (month, mois) = weekdays, months
    number = "premier" if day.day == 1 else french(day.day)
    return (
        f"{weekday} the {ORDINALS[day.day]} of {month}, {english_year(day.year)}",
        f"le {jour} {number} {mois} {french(day.year)}",
    )


class Noun(NamedTuple):
    """A noun in both languages."""

    one: str
    many: str
    un: str
    plusieurs: str
    feminine: bool = False


class Adjective(NamedTuple):
    """An adjective in both languages, with its four forms in French."""

    english: str
    masculine: str
    feminine: str
    masculines: str
    feminines: str
    before: bool = False
    """True if it stands before the noun in French, too"""
    before_vowel: str = ""
    """the masculine form before a vowel, if it differs"""


class Verb(NamedTuple):
    """A transitive verb: the English infinitive and third person, and the French present and future."""

    infinitive: str
    present: str
    voit: str
    voient: str
    verra: str
    verront: str


BEINGS = (
    Noun("cat", "cats", "chat", "chats"),
    Noun("dog", "dogs", "chien", "chiens"),
    Noun("bird", "birds", "oiseau", "oiseaux"),
    Noun("horse", "horses", "cheval", "chevaux"),
    Noun("cow", "cows", "vache", "vaches", True),
    Noun("mouse", "mice", "souris", "souris", True),
    Noun("man", "men", "homme", "hommes"),
    Noun("woman", "women", "femme", "femmes", True),
    Noun("child", "children", "enfant", "enfants"),
    Noun("girl", "girls", "fille", "filles", True),
    Noun("king", "kings", "roi", "rois"),
    Noun("queen", "queens", "reine", "reines", True),
    Noun("student", "students", "étudiant", "étudiants"),
    Noun("doctor", "doctors", "médecin", "médecins"),
)
THINGS = (
    Noun("house", "houses", "maison", "maisons", True),
    Noun("tree", "trees", "arbre", "arbres"),
    Noun("book", "books", "livre", "livres"),
    Noun("table", "tables", "table", "tables", True),
    Noun("flower", "flowers", "fleur", "fleurs", True),
    Noun("apple", "apples", "pomme", "pommes", True),
    Noun("car", "cars", "voiture", "voitures", True),
    Noun("ship", "ships", "bateau", "bateaux"),
    Noun("church", "churches", "église", "églises", True),
    Noun("coat", "coats", "manteau", "manteaux"),
    Noun("key", "keys", "clé", "clés", True),
    Noun("picture", "pictures", "image", "images", True),
)
QUALITIES = (
    Adjective("small", "petit", "petite", "petits", "petites", before=True),
    Adjective("big", "grand", "grande", "grands", "grandes", before=True),
    Adjective("good", "bon", "bonne", "bons", "bonnes", before=True),
    Adjective("old", "vieux", "vieille", "vieux", "vieilles", before=True, before_vowel="vieil"),
    Adjective("beautiful", "beau", "belle", "beaux", "belles", before=True, before_vowel="bel"),
    Adjective("new", "nouveau", "nouvelle", "nouveaux", "nouvelles", before=True, before_vowel="nouvel"),
    Adjective("strange", "étrange", "étrange", "étranges", "étranges"),
    Adjective("famous", "célèbre", "célèbre", "célèbres", "célèbres"),
    Adjective("calm", "calme", "calme", "calmes", "calmes"),
    Adjective("discreet", "discret", "discrète", "discrets", "discrètes"),
)
"""adjectives for all nouns"""
COLORS = (
    Adjective("black", "noir", "noire", "noirs", "noires"),
    Adjective("white", "blanc", "blanche", "blancs", "blanches"),
    Adjective("red", "rouge", "rouge", "rouges", "rouges"),
    Adjective("green", "vert", "verte", "verts", "vertes"),
    Adjective("heavy", "lourd", "lourde", "lourds", "lourdes"),
    Adjective("round", "rond", "ronde", "ronds", "rondes"),
)
"""adjectives for things alone"""
VERBS = (
    Verb("see", "sees", "voit", "voient", "verra", "verront"),
    Verb("love", "loves", "aime", "aiment", "aimera", "aimeront"),
    Verb("find", "finds", "trouve", "trouvent", "trouvera", "trouveront"),
    Verb("look for", "looks for", "cherche", "cherchent", "cherchera", "chercheront"),
    Verb("draw", "draws", "dessine", "dessinent", "dessinera", "dessineront"),
    Verb("forget", "forgets", "oublie", "oublient", "oubliera", "oublieront"),
    Verb("know", "knows", "connaît", "connaissent", "connaîtra", "connaîtront"),
    Verb("admire", "admires", "admire", "admirent", "admirera", "admireront"),
)
"""verbs with any object"""
VERBS_OF_THINGS = (
    Verb("want", "wants", "veut", "veulent", "voudra", "voudront"),
    Verb("buy", "buys", "achète", "achètent", "achètera", "achèteront"),
    Verb("carry", "carries", "porte", "portent", "portera", "porteront"),
)
"""verbs whose object is a thing"""
DETERMINERS = ("the", "a", "this", "count")
LINKS = (("and", "et"), ("but", "mais"), ("because", "parce que"))


class Phrase(NamedTuple):
    """A noun with its determiner, number and adjective."""

    noun: Noun
    determiner: str
    number: int
    """1 for one, 2 for several without a number, and more as the number that is stated"""
    adjective: Adjective | None = None

    @property
    def english(self) -> str:
        """Returns the phrase in English."""
        plural = self.number > 1
        determiner = {"the": "the", "a": "a", "this": "these" if plural else "this"}.get(self.determiner)
        words = [determiner or english(self.number), self.adjective and self.adjective.english]
        phrase = " ".join([*filter(None, words), self.noun.many if plural else self.noun.one])
        return f"an{phrase[1:]}" if self.determiner == "a" and phrase[2] in "aeiou" else phrase

    def french(self, negated: bool = False) -> str:
        """Returns the phrase in French; "un" becomes "de" if it is what is negated."""
        noun, plural, adjective = self.noun, self.number > 1, self.adjective
        words = [noun.plusieurs if plural else noun.un]
        if adjective is not None:
            feminine, masculine = (adjective.feminines, adjective.masculines) if plural else adjective[2:0:-1]
            agreed = feminine if noun.feminine else masculine
            if not plural and not noun.feminine and adjective.before and vowel(words[0]):
                agreed = adjective.before_vowel or agreed
            words = [agreed, *words] if adjective.before else [*words, agreed]
        return self._determined(" ".join(words), negated)

    def _determined(self, words: str, negated: bool) -> str:
        """Returns the words after their determiner in French."""
        feminine, plural = self.noun.feminine, self.number > 1
        match self.determiner:
            case "the" if plural:
                return f"les {words}"
            case "the":
                return f"l'{words}" if vowel(words) else f"{'la' if feminine else 'le'} {words}"
            case "this" if plural:
                return f"ces {words}"
            case "this":
                return f"{'cette' if feminine else 'cet' if vowel(words) else 'ce'} {words}"
            case "a" if negated:
                return f"d'{words}" if vowel(words) else f"de {words}"
            case "a":
                return f"{'une' if feminine else 'un'} {words}"
        count = french(self.number)
        # One agrees with the noun, alone and at the end of a longer number.
        return f"{count}e {words}" if feminine and count.endswith("un") else f"{count} {words}"


class Clause(NamedTuple):
    """A subject, a verb and an object."""

    subject: Phrase
    verb: Verb
    object: Phrase
    negated: bool = False
    future: bool = False

    @property
    def english(self) -> str:
        """Returns the clause in English."""
        plural, verb = self.subject.number > 1, self.verb
        if self.future:
            verb_form = f"will {'not ' if self.negated else ''}{verb.infinitive}"
        elif self.negated:
            verb_form = f"{'do' if plural else 'does'} not {verb.infinitive}"
        else:
            verb_form = verb.infinitive if plural else verb.present
        return f"{self.subject.english} {verb_form} {self.object.english}"

    @property
    def french(self) -> str:
        """Returns the clause in French."""
        plural, verb = self.subject.number > 1, self.verb
        present, future = (verb.voient, verb.verront) if plural else (verb.voit, verb.verra)
        form = future if self.future else present
        if self.negated:
            form = f"n'{form} pas" if vowel(form) else f"ne {form} pas"
        return f"{self.subject.french()} {form} {self.object.french(self.negated)}"


def sentence_of(clauses: Sequence[Clause], links: Sequence[int]) -> tuple[str, str]:
    """Returns clauses as one sentence in both languages. links: the place in LINKS of the word before each clause but
    the first."""
    english_words, french_words = clauses[0].english, clauses[0].french
    for clause, link in zip(clauses[1:], links, strict=True):
        english_link, french_link = LINKS[link]
        words = clause.french
        if french_link.endswith("que") and vowel(words):
            french_link = f"{french_link[:-1]}'"
        space = "" if french_link.endswith("'") else " "
        english_words, french_words = (
            f"{english_words} {english_link} {clause.english}",
            f"{french_words} {french_link}{space}{words}",
        )
    return english_words, french_words


def vowel(word: str) -> bool:
    """Returns True if a French word of this grammar begins with the sound of a vowel."""
    return word[0] in "aeiouéèêâîhœ" and not word.startswith(("huit", "onze"))
