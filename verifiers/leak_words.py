"""The words that leaks change: spellings, phrases that say the same, and interchangeable nouns."""

from progdata.verifiers.generated_vocabulary import VOCABULARY

_SPELLINGS = (
    "analyze/analyse behavior/behaviour caliber/calibre canceled/cancelled catalog/catalogue "
    "center/centre centered/centred centers/centres centimeter/centimetre centimeters/centimetres "
    "check/cheque checkered/chequered color/colour colored/coloured coloring/colouring "
    "colors/colours cozy/cosy defense/defence favor/favour favorite/favourite fiber/fibre "
    "fulfill/fulfil fulfills/fulfils gray/grey harbor/harbour honor/honour jewelry/jewellery "
    "jewelers/jewellers kilometer/kilometre kilometers/kilometres labeled/labelled labor/labour "
    "license/licence liter/litre liters/litres math/maths maximize/maximise maximizes/maximises "
    "meter/metre meters/metres milliliters/millilitres millimeters/millimetres minimize/minimise "
    "minimizes/minimises modeled/modelled modeling/modelling neighbor/neighbour "
    "neighboring/neighbouring neighbors/neighbours organize/organise organized/organised "
    "plow/plough program/programme rancor/rancour realize/realise recognize/recognise rumor/rumour "
    "savory/savoury skeptical/sceptical symbolize/symbolise theater/theatre toward/towards "
    "trapezoid/trapezium trapezoids/trapeziums traveled/travelled traveler/traveller "
    "traveling/travelling vapor/vapour yogurt/yoghurt"
)

SPELLINGS = tuple(tuple(pair.split("/")) for pair in _SPELLINGS.split())
"""American and British spellings, and the words that differ."""

PHRASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("how many", ("what number of", "which number of")),
    ("how much", ("what amount",)),
    ("find all", ("determine every one of the",)),
    ("express your answer", ("write the answer", "give the result")),
    ("relatively prime", ("coprime",)),
    ("positive integers", ("natural numbers",)),
    ("positive integer", ("natural number",)),
    ("integers", ("whole numbers",)),
    ("such that", ("so that", "with the property that")),
    ("at least", ("no fewer than", "not less than")),
    ("at most", ("no more than", "not more than")),
    ("less than", ("smaller than", "below")),
    ("greater than", ("larger than", "above")),
    ("is equal to", ("equals",)),
    ("in terms of", ("as a function of",)),
    ("for all", ("for every",)),
    ("for each", ("for every",)),
    ("for which", ("where",)),
    ("as well as", ("and also",)),
    ("chosen at random", ("picked randomly", "selected at random")),
    ("at random", ("randomly",)),
    ("can be written", ("may be expressed",)),
    ("can be expressed", ("may be written",)),
    ("the value of", ("what we get for",)),
    ("the sum of", ("the total of",)),
    ("the number of", ("the count of", "how many are the")),
    ("the remainder", ("what is left over",)),
    ("the probability that", ("how likely it is that",)),
    ("divided by", ("over",)),
    ("is divisible by", ("is a multiple of",)),
    ("what is", ("determine", "find")),
    ("find", ("determine", "work out")),
    ("compute", ("calculate", "evaluate")),
    ("calculate", ("compute", "work out")),
    ("determine", ("find", "establish")),
    ("evaluate", ("compute", "calculate")),
    ("simplify", ("reduce",)),
    ("solve", ("find the solution of",)),
    ("suppose", ("assume",)),
    ("assume", ("suppose",)),
    ("consider", ("take", "look at")),
    ("given that", ("knowing that",)),
    ("if", ("when", "provided that")),
    ("let", ("say that we let",)),
    ("denote", ("stand for",)),
    ("denotes", ("stands for",)),
    ("contains", ("has in it",)),
    ("consists of", ("is made up of",)),
    ("begins", ("starts",)),
    ("starts", ("begins",)),
    ("chooses", ("picks",)),
    ("choose", ("pick",)),
    ("buys", ("purchases",)),
    ("bought", ("purchased",)),
    ("exactly", ("precisely",)),
    ("distinct", ("different",)),
    ("different", ("distinct",)),
    ("largest", ("greatest",)),
    ("greatest", ("largest",)),
    ("smallest", ("least",)),
    ("least", ("smallest",)),
    ("maximum", ("largest",)),
    ("minimum", ("smallest",)),
    ("total", ("whole",)),
    ("each", ("every",)),
    ("every", ("each",)),
    ("but", ("yet",)),
    ("while", ("whereas",)),
    ("because", ("since",)),
    ("about", ("around",)),
    ("big", ("large",)),
    ("gives", ("hands",)),
    ("needs", ("requires",)),
    ("shown", ("displayed",)),
    ("passes through", ("goes through",)),
    ("lies on", ("is located on",)),
)
"""Phrases, and what may stand for each."""

_NUMBER_WORDS = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)

NUMBER_WORDS = tuple(_NUMBER_WORDS.split())

_NAMES = (
    "Aaron Abby Adam Alan Alex Alice Amanda Amy Andrea Andrew Andy Angela Ann Anna Anne Annie "
    "Anthony Ari Arthur Ashley Ava Barbara Becky Ben Benjamin Beth Betty Bill Billy Bob Bobby "
    "Brandon Brenda Brian Cara Carl Carla Carlos Carol Caroline Catherine Charles Charlie Chloe "
    "Chris Christina Christine Christopher Cindy Claire Connie Craig Dan Daniel Danny Dave David "
    "Dawn Debbie Dennis Derek Diana Diane Donald Donna Doug Ed Edward Elaine Elizabeth Ella Ellen "
    "Emily Emma Eric Erica Ernie Ethan Eva Evan Felix Frank Fred Gary George Georgia Gina Grace "
    "Greg Hank Hannah Harold Harry Heather Heidi Helen Henry Holly Ian Isaac Isabella Jack Jackie "
    "Jacob Jake James Jamie Jan Jane Janet Jason Jeff Jen Jenna Jennifer Jenny Jeremy Jerry Jesse "
    "Jessica Jill Jim Jimmy Joan Joe Joel John Johnny Jon Jordan Joseph Josh Joshua Joy Juan Judy "
    "Julia Julie Justin Karen Karl Kate Katherine Kathy Katie Keith Kelly Ken Kenny Kevin Kim "
    "Kyle Larry Laura Lauren Leo Leon Leslie Linda Lisa Liz Lori Louis Lucas Lucy Luis Luke Lynn "
    "Madison Marc Marcus Margaret Maria Marie Mark Martha Martin Mary Matt Matthew Max Megan "
    "Melanie Melissa Mia Michael Michelle Mike Molly Monica Nancy Natalie Nathan Nick Nicole Nina "
    "Noah Nora Oliver Olivia Omar Oscar Pam Pat Patricia Paul Paula Penny Pete Peter Phil Rachel "
    "Ralph Randy Raymond Rebecca Richard Rick Rita Rob Robert Robin Roger Ron Rosa Rose Roy "
    "Russell Ruth Ryan Sally Sam Samantha Samuel Sandra Sara Sarah Scott Sean Seth Shannon Sharon "
    "Shawn Sheila Shelby Simon Sofia Sophia Sophie Stan Stephanie Stephen Steve Steven Sue Susan "
    "Suzanne Ted Teresa Terry Theo Thomas Tiffany Tim Timothy Tina Todd Tom Tommy Tony Tracy "
    "Travis Tyler Vanessa Veronica Victor Victoria Vincent Walter Wendy William Yolanda Zach Zoe"
)

NAMES = tuple(_NAMES.split())
"""First names of real problems."""

_NOUNS = (
    "apple banana cherry lemon mango melon orange peach pear plum",
    "boy girl",
    "student player teacher friend worker runner scientist soldier guest member tourist farmer",
    "brother sister cousin uncle aunt",
    "dog cat rabbit horse cow goat chicken duck bird frog ant",
    "ball marble bead pebble bean button counter token chip",
    "card ticket stamp sticker coupon",
    "red blue green yellow purple orange white black brown pink",
    "dollar euro pound franc rupee peso",
    "mile kilometer league",
    "meter yard inch centimeter",
    "gallon liter quart pint",
    "box bag basket crate drawer jar bucket",
    "car bus train truck van bicycle boat ship",
    "shop store market bakery restaurant",
    "book magazine newspaper notebook comic",
    "pencil pen crayon marker eraser ruler",
    "cookie cupcake muffin donut candy biscuit pie",
    "shirt hat jacket coat sock shoe dress",
    "town village city country island",
    "school college university academy",
    "tree bush flower rose tulip",
    "farm ranch garden orchard",
    "team club squad band class",
    "house cottage apartment office tower building",
    "milk juice water lemonade tea coffee",
    "gold silver copper bronze iron",
    "game match contest tournament race",
    "chair stool bench table desk",
    "hexagon pentagon octagon heptagon",
    "grasshopper beetle spider ladybug snail",
)

_KINDS = ("place", "goods", "job", "animal", "vehicle", "colour", "crop", "shop", "material")


def _plural(word: str) -> str:
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


def _groups() -> dict[str, tuple[str, ...]]:
    """For each noun its group; plurals are among plurals."""
    singular = [tuple(words.split()) for words in _NOUNS]
    plural = [tuple(map(_plural, words)) for words in singular]
    found: dict[str, tuple[str, ...]] = {}
    for group in (*singular, *plural, *(VOCABULARY[kind] for kind in _KINDS)):
        found |= dict.fromkeys(set(group) - found.keys(), group)
    found |= dict.fromkeys((*NAMES, *VOCABULARY["name"]), VOCABULARY["name"])
    return {word: group for word, group in found.items() if word not in _AMBIGUOUS}


_AMBIGUOUS = {"lead", "date", "dates", "match", "tower", "pound", "class", "foundry"}

NOUNS = _groups()
"""For each noun or name the words that may take its place, itself among them."""
