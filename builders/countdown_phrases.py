"""The wording of the `countdown` source: problems, what a search says, and its answers.

Every table is drawn from by position, so the order and the number of its entries are part of the
rows that a seed gives.
"""

PROBLEMS = (
    "Using the numbers {numbers}, write an expression that equals {target}. Use + - * / and "
    "parentheses, and use each number exactly once.",
    "Reach the target {target} from the numbers {numbers}. You may add, subtract, multiply and "
    "divide, and every number must be used exactly once.",
    "Countdown: the numbers are {numbers} and the target is {target}. Combine all of the numbers, "
    "each exactly once, with + - * / to hit the target.",
    "Find an arithmetic expression with the value {target} in which each of {numbers} appears "
    "exactly once and the only operations are + - * /.",
    "How can you make {target} out of {numbers}? Every number has to be used once and only once; "
    "+ - * / and parentheses are allowed.",
    "Make {target}. You have {numbers}, each to be used exactly once, and the operations + - * /.",
)
OPENINGS = (
    "I need to make {target} from {numbers}, each used once.",
    "Okay, so the target is {target} and I have {numbers}.",
    "Let me see. The numbers are {numbers}, and they should give {target}.",
    "We want {target} out of {numbers}, and nothing may be left over.",
    "So: {numbers}, target {target}, every number exactly once.",
    "Let me think about how to get {target} with {numbers}.",
)
ORDERS = (
    (
        "I will just work through combinations in no particular order.",
        "There is no obvious start, so I will try pairs as they come.",
        "Let me go through the pairs one by one and keep to positive whole numbers.",
        "I will combine two numbers at a time and see what is left.",
    ),
    (
        "I will first look at steps that land close to {target} and adjust from there.",
        "It makes sense to get near {target} early and fix the difference.",
        "Let me prefer steps whose result is near {target}.",
        "My plan: get close to {target} first, then correct.",
    ),
    (
        "I will try the small results first and see whether they help.",
        "Let me begin with steps that give small numbers.",
        "Keeping the numbers small seems easiest, so small results come first.",
        "My plan is to shrink the numbers first.",
    ),
)
FIRST = (
    ("Let me start with ", ", which leaves "),
    ("Start with ", ". Then I have "),
    ("First, ", ", leaving "),
    ("Say I begin with ", ". That leaves "),
)
OPENERS = (
    ("Let me try ", ", which leaves "),
    ("Wait, what about ", "? That leaves "),
    ("But wait, ", " would leave "),
    ("Alternatively, ", ", leaving "),
    ("Hmm, how about ", "? Then I hold "),
    ("Hmm, ", " leaves "),
    ("Is there another way to think about this? Take ", ", so the list becomes "),
    ("But hold on, ", " is open too. It leaves "),
    ("Next, ", ", and what remains is "),
    ("Suppose I do ", ". Now I have "),
    ("What if I use ", "? I would be left with "),
    ("Another option is ", ", leaving "),
)
FOLLOWING = (
    ("From there, ", " leaves "),
    ("Then ", ", leaving "),
    ("Continue with ", ", so now "),
    ("Now ", ", which leaves "),
    ("One step further: ", ", leaving "),
    ("Next ", ", and I am left with "),
)
GUIDED = (
    ("Let me try starting from ", ", which leaves "),
    ("Wait, I should look at ", ". That leaves "),
    ("Alternatively, let me build on ", ", leaving "),
    ("But hold on, let me start from ", " instead. Then I have "),
)
RETURNING = (
    ("Wait, I gave up too early on ", ". Again, then: "),
    ("Hmm, I never finished ", ", so let me go again by "),
    ("But wait, there was more to try with ", ". I get there by "),
    ("Let me return to ", " and look more carefully, with "),
)
RESUMING = (
    "Wait, ",
    "But wait, ",
    "Alternatively, ",
    "Hmm, ",
    "Hmm. ",
    "Still, ",
    "OK, ",
    "Then ",
)
LEADS = ("", "", "", "", "Then ", "Or ", "Maybe ", "And ")
LEAVING = (" leaves ", ", leaving ", " and then ", ", so I have ")
MISSES = (
    ", no.",
    ", none of them right.",
    ". No.",
    ". Dead end.",
    ". Not that either.",
    ". That misses.",
    ", nothing there.",
    ". Doesn't work.",
)
HITS = (
    " That is the target!",
    " That's it!",
    " Yes, exactly what I need.",
    " And that is {target}!",
)
BACK = (
    "Dead end, so back to {state}.",
    "None of that works. I go back to {state}.",
    "Hmm, that does not lead to {target}. Back to {state}.",
    "That did not help, so I undo it and return to {state}.",
    "Wait, this is not getting anywhere. Back to {state}.",
    "Nothing so far. Let me step back to {state}.",
)
STALE = "What I would try from there I have already looked at. Back to {state}."
STOCK = (
    "So far I have started from {openings} and checked {checked}. The nearest value yet is "
    "{nearest}.",
    "Let me take stock: {checked} checked without {target}, starting from {openings}. The best "
    "value I have seen is {nearest}.",
    "That makes {checked} since I began here, and none is {target}. What I tried under {openings} "
    "is ruled out.",
    "Summary so far: {openings} did not give {target} in the {checked} I checked. The nearest "
    "value I have seen is {nearest}.",
)
CHECKS = (
    "Let me double-check: {steps}.",
    "But let me double-check. {steps}.",
    "Checking it step by step: {steps}.",
    "Wait, let me verify: {steps}.",
)
USED = (
    "All of {numbers} are used exactly once.",
    "And {numbers} each appear once. Good.",
    "The numbers used are {numbers}, nothing twice and nothing left over.",
    "Each number ({numbers}) is used once, so this is fine.",
)
STOPS = (
    "After all this I still do not have {target}, so I will stop here.",
    "I keep missing {target}. I am going to give up the search at this point.",
    "Hmm, I do not see how to reach {target}, and I should stop searching.",
    "This is taking too long. I have not found {target} and will settle for the nearest value.",
)
ANSWERS = (
    "One way to reach {target}:\n\n{lines}\n\n\\boxed{{{expression}}}",
    "The expression {expression} equals {target} and uses each number exactly once.\n\n"
    "\\boxed{{{expression}}}",
    "We can reach {target} as follows.\n\n{lines}\n\nSo the final answer is "
    "\\boxed{{{expression}}}.",
)
SURRENDERS = (
    "I did not find an expression that equals {target}. The closest I found is {expression}, "
    "which is {value}, off by {gap}.\n\n\\boxed{{{expression}}}",
    "I could not reach {target} in my search. My best attempt gives {value}:\n\n"
    "\\boxed{{{expression}}}",
    "This answer is not exact: I got to {value} instead of {target} before I stopped.\n\n"
    "{lines}\n\n**Closest found:** \\boxed{{{expression}}}",
    "I have no exact solution. The nearest value I found to {target} is {value}, from "
    "\\boxed{{{expression}}}.",
)
