"""Stories about people and things, to generate; see `generated_templates`."""

from progdata.verifiers.generated_templates import Template

STORIES = (
    Template(
        "prices",
        "[[At a <adjective> <shop>,|In one <shop> of <place>,|<name:a> visits a <shop> where]] "
        "<3-12> <goods:x> [[and|together with]] <2-9> <goods:y> cost $<31-140>$ <money:m>, "
        "[[while|whereas|but]] <4-15> <goods:x> with <2-9> <goods:y> [[cost|come to|sell for]] "
        "$<141-290>$ <money:m>.",
        "the price, in <money:m>, of <2-6> <goods:y> [[bought|paid for|ordered]] by <job>",
    ),
    Template(
        "discount",
        "[[A <adjective> <shop> marks down|During the <month> <event>, a <shop> in <place> "
        "reduces]] its <adjective> <goods:x> by $<5-45>\\%$ [[and, once <job> complain,|and then "
        "on <day>]] raises [[the new|that]] price by $<3-30>\\%$. <name:a> [[finally pays|hands "
        "over|spends]] <40-900> <money:m> for <2-12> of them.",
        "the [[original|first|old]] price [[in <place>|for <job>]] of one of the <goods:x>",
    ),
    Template(
        "travel",
        "A <adjective> <vehicle:v> [[leaves|departs from|sets out from]] <place:p> at "
        "<1-11>:<10-59> [[heading for|bound for|towards]] <place:q> at $<20-95>$ kilometers per "
        "hour. [[<small> minutes afterwards|After <name> has drunk some <liquid>]], a <colour> "
        "<vehicle:w> [[starts|sets off]] from <place:q>, driven by <name>, on the [[same|only]] "
        "road at $<20-95>$ kilometers per hour. The towns [[lie|are]] $<150-900>$ kilometers "
        "apart.",
        "the [[distance|number of kilometers]] from <place:p> at which the <vehicle:v> "
        "[[passes|meets]] the <vehicle:w>",
    ),
    Template(
        "work",
        "[[A team of|Working at the usual pace,|For the <event>,]] <3-20> <job:x> can "
        "[[paint|repair|polish|assemble]] <12-90> <adjective> <goods:g> in <2-14> "
        "[[days|hours]], [[and|although]] a single <adjective> apprentice needs <15-60> "
        "[[days|hours]] for <2-11> <goods:g>. After <2-9> of the <job:x> [[leave for "
        "<place>|fall ill|retire]], <2-8> apprentices [[join|help]] those who remain in <place>.",
        "the time that [[the crew of <name>|the <adjective> <shop>]] [[needs for|takes to "
        "finish]] <50-400> <goods:g>",
    ),
    Template(
        "mixture",
        "<name:a> [[pours|empties]] $<2-60>$ liters of <adjective> <liquid:x> that is "
        "$<5-60>\\%$ <liquid:y> into a <adjective> <container:c> [[already holding|with]] "
        "$<3-70>$ liters of [[pure|clear|weak]] <liquid:x>. [[A leak then loses|<name> "
        "spills|The <container:c> loses]] $<1-9>$ liters, and <liquid:y> is added [[until|so "
        "that]] the blend is $<61-92>\\%$ <liquid:y>.",
        "the [[number of liters|amount]] of <liquid:y> [[added at the end|in the last step]]",
    ),
    Template(
        "drawing",
        "A <adjective> <container:c> [[holds|contains]] <3-19> <colour:p> <goods:g>, <2-17> "
        "<colour:q> ones and <4-15> <colour:r> ones. [[Blindfolded, <name:a> takes out|<name:a> "
        "draws at random]] <2-6> of them [[one after another|in a single grab]] for <name:b>, "
        "[[keeping|without returning]] each <adjective> one.",
        "the probability that [[<name:a> is left without a <colour:p> one|exactly <2-4> of the "
        "drawn <goods:g> are <colour:q>|no <colour:r> one is drawn]]",
    ),
    Template(
        "seating",
        "[[For a <event> in <place>|At the <adjective> <event>]], <3-9> <job:x> and <2-8> "
        "<job:y> [[sit down|take their <adjective> seats|line up]] [[around a circular table|in "
        "a single row|on two facing benches]]. [[<name:a> and <name:b> insist on adjacent "
        "places|No two <job:y> may be neighbors|The <job:x> want <name:a> among them]].",
        "the number of [[different|possible|<adjective>]] arrangements [[that <name:c> can "
        "draw|of the <job:x> and <job:y>]]",
    ),
    Template(
        "committee",
        "The <adjective> society of <place> [[has|counts|consists of]] <5-18> <job:x>, <4-16> "
        "<job:y> and <3-12> <job:z>. [[A delegation|A panel|A committee]] of <4-9> is [[sent to "
        "the <event>|chosen by <name>|elected each <month>]], [[and it must include|with]] <1-3> "
        "or more <job:y> [[but fewer than|and at most]] <2-5> <job:z>.",
        "the number of [[ways to fill|choices for|members wanted for]] the <month> delegation of "
        "<name>",
    ),
    Template(
        "remainders",
        "[[Stacked in rows of <3-8>|Packed <3-8> to a <container:c>]], the <adjective:x> "
        "<goods:g> of <name:a> leave <1-2> [[unused|<colour> ones]]; [[in rows of|in groups of]] "
        "<9-13> they leave <3-8>, [[and|yet]] [[sharing them among|dividing them by]] <14-17> "
        "<job:j> leaves <2-13>.",
        "the [[smallest|least]] number of <goods:g> that <name:a> [[can have|may own|could count]]",
    ),
    Template(
        "ages",
        "[[<2-19> years ago, <name:a> was|In <2-19> years, <name:a> will be]] [[<small>|<13-40>]] "
        "times as old as [[the <adjective> <vehicle:v>|<name:b>]] [[is today|in <month>]], "
        "[[and|although]] <name:b> [[is|was]] $<2-30>$ years [[younger|older]] than "
        "[[<adjective>|<small>-toed]] <name:c> from <place>.",
        "the [[age|present age]] of [[<name:a>|<name:b>]] once <name:c> [[turns|reaches]] <40-99>",
    ),
    Template(
        "averages",
        "The [[mean|average]] [[weight|length|score]] of <4-30> <adjective> <animal:x> [[shown "
        "at|brought to]] the <place> <event> is $<10-95>.<1-9>$, [[but|and]] [[without|leaving "
        "out]] the <small> [[heaviest|youngest|newest]] it [[drops to|becomes]] $<5-60>.<1-9>$. "
        "[[Of the others, <name:a> sells <2-9>|<name:a> then adds <2-9> <animal:y>]] averaging "
        "$<12-80>$.",
        "the [[mean|median|total]] for the <animal:x> that [[were left out|<name:a> did not see]]",
    ),
    Template(
        "interest",
        "<name:a> [[puts|deposits]] <200-9000> <money:m> into [[a bank|an account]] in <place> "
        "at $<2-9>.<1-9>\\%$ [[compounded|paid]] [[monthly|yearly|every <small> months]]; "
        "[[her|his]] neighbor <name:b> [[lends|gives]] <150-7000> <money:m> to [[a "
        "<shop>|<small> <job>]] at [[a flat|an agreed]] $<3-14>\\%$.",
        "the [[years|months]] until <name:b> [[owns more than|has overtaken]] <name:a>",
    ),
    Template(
        "fields",
        "A <adjective> [[rectangular|trapezoidal|triangular]] <shape:s> [[near|in]] <place> [[is "
        "fenced with|has a border of]] $<60-900>$ meters of [[wire|hedge|rope]] and [[is split "
        "into|holds]] <2-9> [[equal|similar]] plots [[planted with|for]] <crop:c>, <crop:d> and "
        "[[a little|some]] <crop:e>. [[Paths|Ditches]] $<1-4>$ meters wide [[run "
        "between|separate]] the <adjective> [[plots|strips]].",
        "the [[largest|greatest]] area [[left for|given to]] <crop:d> in the <shape:s>",
    ),
    Template(
        "harvest",
        "In <month>, <name:a> [[picked|gathered|sold]] <12-90> <measure:k> of <crop:c>, which "
        "was $\\frac{<2-5>}{<6-13>}$ of [[what <name:b> brought home|the whole <adjective> "
        "harvest]]. [[By <day>|After the <event>]], [[<animal:x> had eaten|frost spoiled]] "
        "<2-11> <measure:k> [[and|while]] another <5-40> were [[traded for <goods:g>|given to "
        "<job:j>]].",
        "the number of <measure:k> of <crop:c> [[that remained|still unsold]]",
    ),
    Template(
        "tournament",
        "[[In a round-robin|During a knockout]] <event:e> for <6-40> <job:x>, [[each win earns|a "
        "victory is worth]] the <adjective> side <2-5> points, [[a draw|each tie]] $<1-2>$ "
        "[[and|but]] every <ordinal> loss [[costs|takes away]] <1-3>. [[At the end|Before "
        "<day>]], <name:a> [[leads with|has]] <20-80> points, <2-9> [[ahead of|more than]] "
        "<name:b>.",
        "the [[fewest|greatest number of]] games that <name:b> [[can have lost|might have drawn]]",
    ),
    Template(
        "walk",
        "A <colour> [[grasshopper|robot|beetle|snail|pawn|spider]] [[starts at|stands on|is "
        "dropped at]] $<pair>$ [[on|in]] the <shape> of <name:a>. [[Every second it|Each time "
        "<name:b> claps, it|On each <adjective> beat it]] [[hops|moves|crawls]] [[one "
        "unit|<small> units]] [[north|left|forward]] with probability $\\frac{<1-3>}{<5-9>}$ "
        "[[or otherwise|and else|and, failing that,]] [[east|upward|right]] by $<1-5>$. It "
        "[[stops|rests|falls asleep]] [[once|as soon as]] <name> [[sees|notices]] it [[on|past]] "
        "the [[line $<2-7>x + <3-9>y = <20-95>$|curve $y = <any/x>$]].",
        "the [[expected|average|likely]] number of [[hops|seconds|moves]] [[counted by|before]] "
        "<name:b>",
    ),
    Template(
        "dice",
        "<name:a> [[rolls|throws]] <2-7> [[fair|loaded|<colour>]] [[dice|tetrahedra|spinners]] "
        "[[numbered|labelled]] <1-4> to <6-20>, and <name:b> [[tosses|flips]] <3-15> <adjective> "
        "coins [[of|from]] <place>.",
        "the probability that [[the total of <name:a> exceeds|the largest roll is]] <5-30> "
        "[[while|and]] [[<name:b> sees <2-6> heads|no two coins agree]]",
    ),
    Template(
        "calendar",
        "[[In the calendar of <place>|On planet <name>|For the <adjective> <job> of <place>]], a "
        "<adjective:y> year [[has|counts]] <5-18> months of <15-45> days, [[a week has|and weeks "
        "last]] <4-12>, [[and every|while each]] <ordinal> year [[gains|loses|drops]] <2-9> days "
        "[[before the <crop> are sown|in honor of <name>|when the <animal> return]]. The "
        "<adjective> <event:e> [[falls on|opens on|is held on]] day <3-40> of month <2-8>, "
        "[[which this year is|once|named by <name>]] the <ordinal> day of a <adjective> week.",
        "the number of [[years|months]] until [[the <event:e> does so again|that weekday returns "
        "for <name>|<name> sees the same]]",
    ),
    Template(
        "hike",
        "On <day>, <name:a> [[sets out|starts]] from <place:p> with a <adjective> <container> "
        "[[full of|holding]] <liquid> and $<4-30>$ kilograms of <crop:c>, and [[covers|walks]] "
        "$\\frac{<1-4>}{<5-13>}$ of the way to <place:q>. [[The next morning,|After the "
        "<event>,]] <name:b> and <small> <job:j> [[join in|come along]], and the [[party|group]] "
        "[[manages|makes]] $<8-40>$ kilometers [[a day|before noon]] [[until|till]] a <colour> "
        "<vehicle> [[carries|takes]] <2-5> of the <job:j> [[back|ahead]] at $<30-90>$ kilometers "
        "per hour. Each <adjective> [[walker|person]] [[eats|needs]] $<1-3>.<1-9>$ kilograms "
        "[[daily|between two rests]], [[so that|and therefore]] the <crop:c> [[run out|are "
        "gone]] $<3-50>$ kilometers [[short of|before]] <place:q>, [[where|and there]] <name:d> "
        "[[sells|keeps]] <adjective> <goods>.",
        "the [[distance|number of kilometers]] between <place:p> and <place:q> along this "
        "[[path|route]]",
    ),
    Template(
        "survey",
        "Of <120-900> <job:x> [[asked|questioned]] [[at the <event> in <place>|by <name>]], "
        "<30-99> [[own|collect|repair]] <adjective:j> <goods:g>, <30-99> [[keep|breed|draw]] "
        "<animal:y> and <30-99> [[grow|cook|trade]] <crop:c>. [[Exactly|Just]] <5-29> "
        "[[do|enjoy]] all three, [[whereas|while]] <10-60> [[have|want]] <goods:g> and "
        "<animal:y> [[but|yet]] no <crop:c>; the [[share|fraction]] of the "
        "[[<animal:y>|<crop:c>]] people [[without|lacking]] <goods:g> is "
        "$\\frac{<2-5>}{<6-17>}$. <name:a>, who [[dislikes|fears]] <animal:y>, [[counted|noted]] "
        "[[every|each]] <ordinal> answer [[twice|wrongly]], and <name:b> [[lost|burned]] <2-19> "
        "of the [[forms|sheets]] [[in a <vehicle>|on <day>]].",
        "the [[largest|smallest]] number of <job:x> who [[care for none of these|have <goods:g> "
        "only]]",
    ),
    Template(
        "game",
        "<name:a> and <name:b> [[play|invent]] a game with <20-400> <adjective> <goods:g> "
        "[[in|laid out on]] a <colour> <container:k>. [[In turn, a <adjective> player|Whoever is "
        "to move]] [[removes|takes]] [[one|<small>]] or $<13-40>$ of the <goods:g>, "
        "[[unless|except when]] their number is [[divisible by $<3-12>$|a power of $<2-7>$|equal "
        "to $<any/n>$]], [[in which case|and then]] <name> [[puts half aside|adds $<2-9>$]]. "
        "[[Whoever|The one who]] [[empties|clears]] the <container:k> [[wins|loses]] and "
        "[[pays|owes]] the other $<2-40>$ <money>; <name:a> [[begins|moves first]], [[and <job> "
        "watch|but <name:b> may pass once]] in <month>.",
        "the number of [[starting positions|opening moves]] [[from|with]] which <name:b> [[can "
        "force a win|is sure to gain]]",
    ),
    Template(
        "factory",
        "[[Machines|Presses]] $<point:A>$, $<point:B>$ and $<point:C>$ in a <shop> near <place> "
        "[[turn|press|stamp]] <material> into <goods:g>. [[Alone,|By itself]] $<point:A>$ "
        "[[finishes|makes]] <12-90> in <2-11> hours; $<point:B>$ is <small> times as "
        "[[fast|slow]] on [[<day>s|rainy days]], [[and|though]] $<point:C>$, which <name:a> "
        "[[built|bought from <name>]], [[spoils|breaks]] $<2-19>\\%$ of what it "
        "[[touches|handles]]. The <shop> [[promised|sold]] <300-4000> <adjective> <goods:g> to "
        "<job>, [[due|wanted]] by <month>, at $<2-30>$ <money:m> [[apiece|each]], [[with|and]] a "
        "fine of $<50-900>$ <money:m> [[for each late day|for every <ordinal> one that <name> "
        "drops]].",
        "the [[profit|loss]], in <money:m>, [[if|when]] only $<point:A>$ and $<point:C>$ "
        "[[run|work]] [[nonstop|until <day>]]",
    ),
    Template(
        "order",
        "",
        "the [[cost|weight]] of <3-90> <adjective> <goods> [[bought|sold]] by <name> at $<2-90>$ "
        "[[<money>|ounces]] [[per dozen|apiece|a pair]]",
    ),
)
