"""Exercises on figures and formulas, to generate; see `generated_templates`."""

from progdata.verifiers.generated_templates import Template

EXERCISES = (
    Template(
        "triangle",
        "In [[acute|obtuse|scalene]] triangle $<point:A><point:B><point:C>$, side "
        "$<point:A><point:B>$ [[measures|has length]] $<5-60>$ and $\\cos <point:C> = "
        "\\frac{<1-6>}{<7-19>}$. The [[angle bisector|median|altitude]] from $<point:C>$ "
        "[[meets|hits|crosses]] $<point:A><point:B>$ at $<point:D>$, [[and|where]] "
        "$<point:C><point:D> = <4-49>$.",
        "the [[area|perimeter|inradius]] of triangle $<point:A><point:D><point:C>$",
    ),
    Template(
        "circles",
        "[[A circle|Circle $<greek:w>$]] with center $<point:O>$ and radius $<3-44>$ [[is "
        "tangent to|touches]] line $<point:P><point:Q>$ at $<point:P>$. [[A second|Another]] "
        "circle of radius $<2-39>$ [[passes through $<point:P>$ and $<point:O>$|is centered on "
        "$<point:Q>$]], and chord $<point:R><point:S>$ [[of length|measuring]] $\\sqrt{<5-300>}$ "
        "is [[shared by both|parallel to $<point:O><point:Q>$]], as <name> [[saw|drew]].",
        "the [[length of|distance from $<point:O>$ to]] segment $<point:Q><point:R>$",
    ),
    Template(
        "solids",
        "A <adjective> <container:c> [[has the form of|is shaped like]] a "
        "[[cone|frustum|cylinder|pyramid]] [[<4-60> inches tall|of height $<4-60>$ inches]] "
        "whose [[base|bottom]] has [[diameter|width]] $<3-50>$. <name:a> [[lowers|drops]] <2-9> "
        "[[cubes|spheres]] of <material>, each of [[width|size]] $<1-9>$, [[into|inside]] it, "
        "and [[tops it up with|covers them in]] <liquid:l>.",
        "the volume of <liquid:l> in the <container:c>",
    ),
    Template(
        "coordinates",
        "Points $<point:A> = <pair>$, $<point:B> = <pair>$ and $<point:C> = <pair>$ [[are marked "
        "by <name>|lie on a <colour> grid]]. The <adjective> line $\\ell$ [[through|containing]] "
        "$<point:A>$ has [[slope|gradient]] $\\frac{<1-9>}{<2-11>}$, [[and|while]] the "
        "[[reflection|image]] of $<point:B>$ [[across|in]] $\\ell$ is $<point:D>$.",
        "the [[area|perimeter]] of [[quadrilateral|the figure]] "
        "$<point:A><point:B><point:D><point:C>$",
    ),
    Template(
        "divisors",
        "<name:a> [[paints|chalks|carves|engraves]] the [[positive|even|odd|composite|square]] "
        "[[divisors|factors]] of $<2-9>^{<3-14>} [[\\cdot|\\times|+]] <11-97>^{<2-6>}$ "
        "[[on|onto]] <adjective> <goods:g>, [[and|but]] <job> [[break|steal|hide]] [[all "
        "multiples of $<4-60>$|those congruent to $<1-6>$ modulo $<7-13>$|any below "
        "$<200-9000>$|the <ordinal> powers]].",
        "the [[sum|number|product]] of the [[divisors|numbers]] on the <goods:g> [[left to|still "
        "owned by]] <name:a>",
    ),
    Template(
        "digits",
        "[[Before|During|After]] the <event>, <name:a> [[types|chalks|prints]] the <ordinal> "
        "[[positive integer|whole number]] whose base-$<3-12>$ [[representation|expansion]] "
        "[[uses|contains|needs]] only the digits $<0-1>$ and $<2-9>$ on a <colour> "
        "[[wall|door|screen]], and <name:b> [[reads it backwards|doubles that|subtracts "
        "$<2-90>$|appends $<10-99>$ to it]].",
        "the [[sum|product|mean]] of [[all|odd|even]] digits in what <name:b> has, "
        "[[squared|doubled]] and [[written|printed]] in base $<5-16>$",
    ),
    Template(
        "progression",
        "[[A sequence begins|An arithmetic progression starts|<name>'s list opens]] $<2-30>, "
        "<31-60>, \\ldots$ and a [[geometric|second]] one [[that <name> found|of <place>]] has "
        "<ordinal:o> term $\\frac{<1-9>}{<10-40>}$ and [[ratio|quotient]] "
        "$[[-|]]\\frac{<2-7>}{<8-15>}$. [[Their termwise product|The sum of the two|Their "
        "difference]] is [[called|written]] $\\{<var:u>_{<index:i>}\\}$.",
        "the [[least|first|smallest]] [[index|position]] $<index:i>$ [[with|such that|for "
        "which]] $[[\\lvert <var:u>_{<index:i>} \\rvert|<2-9><var:u>_{<index:i>} + <any/i>]] "
        "[[\\le|\\ge]] <100-990>$",
    ),
    Template(
        "recurrence",
        "[[Define|Consider]] a [[<adjective> sequence|sequence named after <name>]] with "
        "$<var:u>_1 = <1-19>$, $<var:u>_2 = <1-29>$ and $<var:u>_{<index:i>+2} = "
        "[[<2-9><var:u>_{<index:i>+1} [[-|+]] <2-15><var:u>_{<index:i>} | "
        "\\frac{<var:u>_{<index:i>+1}^{<2-3>}}{<2-9>} | "
        "<2-9><var:u>_{<index:i>}<var:u>_{<index:i>+1}]] [[-|+]] "
        "\\frac{<any/i>}{<poly/i>}$ [[for each|whenever]] "
        "$<index:i> \\ge <1-4>$.",
        "the [[remainder|residue|last digit]] of $<var:u>_{<90-2030>}$ [[modulo|on division by]] "
        "$<11-997>$ [[for <name>|given to the <job>|shown in <place>]]",
    ),
    Template(
        "polynomial",
        "[[Let|Suppose]] $<greek:r>$ and $<greek:s>$ [[be|denote]] two roots of "
        "$<function:f>(<var:x>) = <poly/x>$, [[and let|where]] $<function:g>(<var:x>) = <any/x>$.",
        "[[the value|all values]] of $<function:g>(<greek:r>) [[+|-|\\cdot]] <2-30> "
        "<function:g>(<greek:s>^{<2-5>})$",
    ),
    Template(
        "functional",
        "A <adjective> [[function|map]] $<function:f>$ [[on the reals|from $\\mathbb{R}$ to "
        "itself]] satisfies $<function:f>(<any/x>) [[+|-]] <2-15> <function:f>(<any/x>) = "
        "<any/x>$ [[wherever both sides exist|for each real $<var:x>$]].",
        "$<function:f>(<2-90>)$ [[given that|if]] $<function:f>(<3-50>) = <4-800>$",
    ),
    Template(
        "logarithms",
        "[[Positive reals|Numbers]] $<var:x>$ and $<var:y>$ [[satisfy|obey]] "
        "$\\log_{<2-9>}(<poly/x>) = <2-12>$ [[as well as|and]] $<3-25>^{<var:y>} = <any/x>$.",
        "$\\log_{<11-30>} [[\\frac{<var:x>}{<var:y>}|(<var:x> + "
        "<var:y>^{<2-5>})|<var:x>^{<var:y>}]]$",
    ),
    Template(
        "trigonometry",
        "",
        "the [[number of solutions|sum of all solutions|largest root|mean of the roots]] [[found "
        "by <name>|which <name> plots for]] of $<trig/x> = "
        "[[<any/x>|<trig/x>|-\\frac{\\sqrt{<2-7>}}{<8-15>}]]$ [[on the interval|with $<var:x>$ "
        "[[restricted to|taken from]]]] $[[\\left[ 0, <2-19>\\pi \\right)|\\left( "
        "-\\frac{\\pi}{<2-9>}, <3-20>\\pi \\right)]]$",
    ),
    Template(
        "complex",
        "[[Let $<var:z>$ be|Take|<name> picks]] a complex number $<var:z>$ [[on the circle "
        "$\\lvert <var:z> - <2-15> [[+|-]] <3-19>i \\rvert = <2-40>$|whose argument is "
        "$\\frac{\\pi}{<3-19>}$ [[and|or]] whose modulus is $<2-60>$|inside the polygon with "
        "vertices $<2-9>$, $<3-12>i$ and $-<2-20>$]], and [[put|set|write]] $<var:w> = <any/z>$.",
        "the [[maximum|minimum|greatest possible|mean]] [[modulus|imaginary part|real part]] of "
        "$[[<2-9><var:w> [[+|-]] <3-17>i|\\frac{<var:w>}{<var:z> - <2-30>}|<var:w>^{<2-5>} "
        "\\overline{<var:z>}]]$",
    ),
    Template(
        "matrices",
        "[[Let|Put]] $<point:A> = <matrix>$, [[the|a]] <adjective> [[map|shear]] of <name>, and "
        "$<point:B> = <matrix>$[[, where $<point:A><var:x> = <poly/t>\\,<point:B>$|, which <name> "
        "[[calls|finds]] <adjective>]].",
        "the [[determinant|trace|rank]], [[sought by <job>|unknown to <name>]], of "
        "$<point:A>^{<2-12>} [[+|-]] <2-15><point:B>$",
    ),
    Template(
        "lattice",
        "[[Call an ordered|Say that a]] triple $(<var:a>, <var:b>, <var:c>)$ of "
        "[[integers|natural numbers]] <adjective:j> [[whenever|if]] $<2-15><var:a> [[+|-]] "
        "<3-19><var:b><var:c> = <any/a>$ [[and|but]] $<var:b> [[<2-6>|]] + <var:c> \\le "
        "<20-400>$.",
        "the number of <adjective:j> triples [[for which|where]] $<var:c> [[-|+]] <2-9><var:a>$ "
        "is [[a square|odd|prime]]",
    ),
    Template(
        "series",
        "",
        "$\\[[sum|prod]]_{<index:i> = <1-9>}^{[[\\infty|<20-2030>]]} [[\\left(|\\frac{1}{<2-9>} "
        "\\left(]] <any/i> \\right)$, [[rounded to|correct to]] <small> [[decimal "
        "places|digits]] [[by|for]] <name:a>",
    ),
    Template(
        "sets",
        "[[Let $<point:S> = <set>$|Consider the set $<point:S> = <set>$|The <goods> of <name> "
        "are numbered by $<point:S> = <set>$]]. [[A subset|A collection of elements|Part]] of "
        "$<point:S>$ is [[called|said to be|labelled]] <adjective:j> by <name> if [[its sum "
        "is|its product is|its mean is|its largest element is]] [[a multiple of <3-15>|at most "
        "<20-300>|more than <10-80>|prime]] [[and|or]] [[it holds <2-90>|none of $<any/n>$ is in "
        "it|its size exceeds <2-4>]].",
        "the number of <adjective:j> [[subsets|choices]] [[with|of]] [[<2-5> elements|even "
        "size|neighboring members]]",
    ),
    Template(
        "integral",
        "[[The region|A region]] [[between|bounded by]] $<var:y> = <any/x>$ and $<var:y> = "
        "<any/x>$ [[is rotated|spins]] about the line $<var:x> = [[-|]]<2-17>$[[, starting at|, "
        "from]] $<var:x> = <1-6>$.",
        "the [[volume|surface area|centroid]] of the <adjective> [[solid|body]] [[so "
        "formed|swept out]]",
    ),
    Template(
        "limit",
        "",
        "the [[limit|behavior]] of $\\frac{<any/x>}{<any/x>}$ as $<var:x>$ [[approaches|tends "
        "to]] $[[\\infty|<2-40>]]$ [[, as asked by <name>|, shown at the <event>|on the <colour> "
        "screen]]",
    ),
    Template(
        "tangent",
        "",
        "the [[slope|curvature|steepness]] that <name> [[reads off|measures on]] the "
        "[[graph|curve]] $<var:y> = <any/x>$ at $<var:x> = [[<2-30>|\\frac{<1-9>}{<10-30>}]]$",
    ),
)
