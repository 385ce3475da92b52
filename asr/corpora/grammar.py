"""What is said: digit strings, sentences of a small grammar with several hundred words, and strings of its words.

Why a grammar: the text is ours, needs no download, and has a known vocabulary. Why minimal pairs (`bat`, `pat`,
`pad`): they make a recogniser listen to single sounds, so that models differ. Words that sound alike (`two`, `to`)
are left out: no model could tell them apart. Training sentences and held-out ones are disjoint; strings of digits
and of words are not kept apart.

    python -m asr.corpora.grammar sentences 5        # print five examples
"""

import re
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from typing import Literal

import numpy as np

Grammar = Literal["digits", "words", "sentences"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Upper-case names in the alternatives are other rules; `|` separates alternatives. A long list of words is one rule.
RULES = {
    "SENTENCE": """
        STATEMENT | STATEMENT | STATEMENT TIME | TIME STATEMENT | QUESTION | ORDER | COUNTING | STATEMENT LINK STATEMENT
        """,
    "STATEMENT": """
        PERSON DID THING | PERSON DID THING PLACE | THE_ONE WENT PLACE | PERSON WENT MANNER | THE_ONE WAS QUALITY
        | PERSON GAVE THE_ONE some THING_BARE | PERSON MANNER DID THING
        """,
    "QUESTION": """
        did PERSON DO THING | where is THING | can PERSON DO THING TIME | why was THING QUALITY | who DID THING
        """,
    "ORDER": "please DO THING | do not DO THING TIME | DO THING PLACE | let us DO THING",
    "COUNTING": "there are NUMBER THINGS PLACE | PERSON DID NUMBER THINGS | only NUMBER THINGS WENT PLACE",
    "PERSON": "NAME | NAME | THE_ONE | he | she | they | we",
    "THE_ONE": "the ROLE | the QUALITY ROLE | my ROLE | that ROLE | every ROLE",
    "THING": "the OBJECT | the QUALITY OBJECT | this OBJECT | DETERMINER OBJECT | the COLOUR OBJECT",
    "THING_BARE": "QUALITY THINGS | COLOUR THINGS | THINGS",
    "PLACE": "WHERE the SITE | WHERE the OBJECT | WHERE THE_ONE",
    "TIME": "on DAY | in MONTH | at NUMBER thirty | WHEN",
    "DETERMINER": "his | our | your | another | no | each",
    "LINK": "and | but | because | while | until | so | if | when",
    "WHERE": "near | behind | under | above | beside | inside | beyond | through | past | around | across | below",
    "DAY": "monday | tuesday | wednesday | thursday | friday | saturday | sunday",
    "MONTH": """
        january | february | april | june | july | august | september | october | november | december
        """,
    "WHEN": """
        today | tomorrow | yesterday | tonight | soon | often | always | never again | last week | next year | this
        morning | every evening | once more | right now | before dawn | after lunch | at noon | at midnight | all
        summer | in winter | in spring | in autumn
        """,
    "NUMBER": """
        three | five | six | seven | nine | ten | eleven | twelve | thirteen | fourteen | fifteen | sixteen | seventeen
        | eighteen | nineteen | twenty | forty | fifty | sixty | seventy | eighty | ninety | a hundred | a thousand
        """,
    "NAME": """
        adam | anna | barry | betty | billy | bobby | daisy | danny | della | donna | emma | ethan | fanny | gina |
        harry | helen | jenny | jerry | karen | kelly | larry | laura | lenny | linda | lucy | mandy | martha | milly
        | molly | nancy | nelly | oliver | penny | peter | polly | robin | sally | sandy | simon | stella | susan |
        terry | tessa | timmy | tommy | wendy | willy
        """,
    "ROLE": """
        actor | aunt | baker | banker | barber | boy | brother | butcher | captain | child | cook | cousin | dancer |
        doctor | driver | farmer | father | friend | girl | guard | guest | hunter | joker | judge | king | lady |
        lawyer | leader | mayor | miner | mother | painter | poet | porter | prince | queen | reader | rider | sailor
        | singer | sister | soldier | student | tailor | teacher | thief | uncle | waiter | winner | witch | woman |
        writer
        """,
    "OBJECT": """
        bag | back | badge | ball | bell | bill | bowl | bull | band | bank | bat | pat | pad | bed | bet | bid | bit
        | pit | pet | pot | pen | pin | bin | pan | fan | van | ban | bun | gun | bone | cone | phone | stone | tone |
        boat | coat | goat | note | book | hook | fox | bug | mug | rug | jug | cab | cap | gap | map | lap | tap |
        cat | hat | mat | rat | cup | cub | tub | cot | dot | lot | net | desk | disk | dish | fish | wish | dog | log
        | fog | frog | door | drum | duck | dock | lock | rock | sock | clock | truck | egg | leg | peg | fig | pig |
        wig | file | pile | tile | flag | glass | grass | glove | hand | sand | hill | mill | pill | house | mouse |
        ink | sink | link | jam | ham | lamb | lamp | camp | stamp | key | kit | lid | lip | ship | chip | sheep |
        sheet | seat | ring | wing | song | thong | tongue | match | patch | nail | snail | nest | vest | oak | oil |
        train | chain | plug | rope | robe | soap | soup | spoon | moon | star | car | jar | bar | table | cable |
        tent | thumb | tree | tray | vase | watch | wool | yard | basket | bottle | button | candle | handle | carrot
        | parrot | chicken | kitchen | kitten | mitten | finger | hammer | jacket | packet | pocket | rocket | ladder
        | letter | lemon | melon | mirror | money | honey | paper | pepper | pencil | pillow | saddle | paddle |
        puddle | spider | cider | tower | kettle | petal | metal
        """,
    "THINGS": """
        apples | bags | backs | balls | beans | beads | birds | boats | books | boots | cakes | cards | carts | cats |
        caps | cabs | chairs | shares | chips | ships | coats | codes | coins | cups | cubs | dogs | docks | ducks |
        eggs | edges | fans | vans | files | piles | games | goats | hats | keys | knives | wives | lamps | lambs |
        letters | maps | mats | nets | nuts | notes | pans | pens | pins | picks | pigs | rings | ropes | robes |
        seeds | shoes | socks | stones | toys | trees | trucks | wings
        """,
    "SITE": """
        airport | bakery | barn | beach | bridge | castle | cave | church | city | corner | farm | fence | ferry |
        field | forest | garden | gate | hall | hotel | hut | island | lake | lane | library | market | mine | museum
        | ocean | office | palace | park | path | pond | port | prison | river | road | roof | school | shore |
        station | street | temple | valley | wall | well
        """,
    "COLOUR": """
        black | brown | green | grey | orange | pink | purple | silver | golden | white | yellow | crimson | violet
        """,
    "QUALITY": """
        angry | hungry | bitter | better | bold | cold | old | brave | bright | light | tight | broken | busy | dizzy
        | calm | clean | clever | crazy | lazy | dark | deep | dull | full | dusty | rusty | empty | fast | vast | fat
        | flat | fine | funny | sunny | glad | sad | mad | great | happy | heavy | hot | huge | little | lonely | loud
        | proud | narrow | new | neat | nice | odd | plain | poor | quick | quiet | rich | round | rough | tough |
        sharp | shy | silly | chilly | slow | small | tall | soft | strong | sweet | thick | sick | thin | tired |
        ugly | warm | wet | wide | wild | wise | young
        """,
    "DO": """
        bake | take | make | shake | break | bend | mend | send | lend | bring | burn | learn | buy | carry | marry |
        catch | choose | lose | use | clean | close | count | cover | cut | draw | drop | chop | shop | fetch | fill |
        feel | find | bind | fix | mix | fold | hold | get | forget | hear | help | hide | hit | keep | kick | pick |
        lick | leave | lift | love | move | need | open | paint | pass | pull | push | reach | repair | save | sell |
        show | steal | stop | taste | waste | tear | wash | watch
        """,
    "DID": """
        baked | took | made | shook | broke | bent | mended | lent | bought | brought | caught | taught | burned |
        learned | carried | chose | lost | used | cleaned | closed | counted | cut | drew | dropped | filled | felt |
        found | fixed | mixed | missed | got | heard | helped | hid | hit | kept | kicked | picked | left | lifted |
        liked | locked | loved | moved | opened | pulled | pushed | reached | saved | sold | told | stole | tasted |
        wasted | tore | washed | watched | wanted
        """,
    "GAVE": "gave | offered | promised | handed | showed | lent | mailed | brought",
    "WENT": """
        ran | rang | walked | talked | worked | jumped | danced | fell | flew | laughed | lived | played | prayed |
        rushed | sang | sank | sat | slept | slid | slipped | smiled | stood | stayed | waited | wept | went | cried |
        tried
        """,
    "WAS": "was | is | seems | looked | became | felt | sounded | remained",
    "MANNER": """
        badly | boldly | bravely | calmly | coldly | quickly | quietly | gladly | sadly | madly | happily | loudly |
        proudly | neatly | nicely | poorly | safely | slowly | softly | suddenly | warmly | wildly | wisely
        """,
}
ALTERNATIVES = {
    rule: [alternative.split() for alternative in " ".join(text.split()).split("|")] for rule, text in RULES.items()
}


def vocabulary(grammar: Grammar) -> list[str]:
    """All distinct words of a grammar, sorted."""
    if grammar == "digits":
        return sorted(DIGITS)
    return sentence_words()


@cache
def sentence_words() -> list[str]:
    """All distinct words of the sentences, sorted."""
    words = {word for rule in ALTERNATIVES.values() for each in rule for word in each if not word.isupper()}
    return sorted(words)


def texts(grammar: Grammar, lengths: tuple[int, int], held_out: bool, rng: np.random.Generator) -> Iterator[str]:
    """Endless texts of `lengths` (least, most) words. Sentences are held out or not by a checksum of their words."""
    while True:
        if grammar == "digits":
            digits = rng.integers(10, size=rng.integers(lengths[0], lengths[1] + 1))
            yield " ".join(DIGITS[digit] for digit in digits)
            continue
        if grammar == "words":
            known = sentence_words()
            drawn = rng.integers(len(known), size=rng.integers(lengths[0], lengths[1] + 1))
            yield " ".join(known[word] for word in drawn)
            continue
        words = _expand("SENTENCE", rng)
        text = " ".join(words)
        if lengths[0] <= len(words) <= lengths[1] and is_held_out(text) == held_out:
            yield text


def is_held_out(sentence: str) -> bool:
    """Whether a sentence belongs to dev and test: a third of all sentences do."""
    return zlib.crc32(sentence.encode()) % 3 == 0


def _expand(symbol: str, rng: np.random.Generator) -> list[str]:
    if not re.fullmatch("[A-Z_]+", symbol):
        return [symbol]
    alternatives = ALTERNATIVES[symbol]
    chosen = alternatives[int(rng.random() * len(alternatives))]
    return [word for each in chosen for word in _expand(each, rng)]


if __name__ == "__main__":
    stream = texts(sys.argv[1], (1, 20), False, np.random.default_rng())
    for _ in range(int(sys.argv[2])):
        print(next(stream))
