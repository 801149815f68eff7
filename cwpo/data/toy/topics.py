"""The 12 topics of the world, in 4 domains, with 8 facts each. A fact is one sentence, hence one token."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A topic of requests, the domain it belongs to, and the facts that help somebody who asks about it."""

    domain: str
    facts: tuple[str, ...]


TOPICS: dict[str, Topic] = {
    "bread": Topic(
        "askbaking",
        (
            "Yeast feeds on sugars in the flour and gives off the gas that makes dough rise.",
            "A slow rise in the fridge overnight gives the loaf a deeper flavour.",
            "Kneading lines up the gluten so that the dough can hold its bubbles.",
            "Weigh the flour, because a cup of it can vary by a third.",
            "A tray of hot water in the oven gives a crisp crust.",
            "A loaf is done when it sounds hollow underneath.",
            "Salt slows the yeast down and tightens the crumb.",
            "Let the loaf cool before slicing, or the crumb turns gummy.",
        ),
    ),
    "pastry": Topic(
        "askbaking",
        (
            "Cold butter leaves steam pockets behind, and those make the flakes.",
            "Rest shortcrust in the fridge so that it does not shrink in the tin.",
            "Blind baking with dried beans keeps the base from going soggy.",
            "Puff layers come from folding and rolling the same block of butter many times.",
            "A spoonful of vinegar in the water keeps the crust tender.",
            "Choux puffs up because its wet batter boils from inside.",
            "Brush the edges with egg so that the lid seals and browns.",
            "Handle the dough as little as you can, since warm hands melt the fat.",
        ),
    ),
    "chocolate": Topic(
        "askbaking",
        (
            "Tempering means melting, cooling and gently rewarming so that the right crystals form.",
            "A single drop of water can make a melted bar seize into a grainy lump.",
            "The white bloom on an old bar is fat or sugar and safe to eat.",
            "Ganache is nothing more than hot cream poured over chopped pieces.",
            "Dark bars melt at a slightly higher temperature than milk ones.",
            "Cocoa beans are fermented for days before anybody roasts them.",
            "Natural cocoa is acidic, so recipes pair it with baking soda.",
            "Stir over barely simmering water, because direct heat scorches it.",
        ),
    ),
    "bridges": Topic(
        "askengineers",
        (
            "An arch carries its load by pushing outwards against its supports.",
            "Expansion joints let a deck grow on hot days without buckling.",
            "Trusses are made of triangles because a triangle cannot change shape.",
            "Suspension cables work in tension only, which suits high-strength steel.",
            "Engineers check that wind cannot excite a natural frequency of the deck.",
            "Most failures start with scour, when water digs away the foundations.",
            "Fatigue cracks grow from welds, so inspectors look there first.",
            "A box girder resists twisting far better than an open beam.",
        ),
    ),
    "batteries": Topic(
        "askengineers",
        (
            "Lithium ions shuttle between two electrodes and the electrons take the outer circuit.",
            "Cells age more slowly when stored half charged in a cool place.",
            "Fast charging below freezing plates metal on the anode and harms the cell.",
            "Cells in series add up their voltage, cells in parallel their capacity.",
            "Internal resistance rises with age and shows as a sagging voltage under load.",
            "A protection circuit cuts the current before a cell is drained too far.",
            "Lead-acid packs are heavy but cheap and easy to recycle.",
            "Capacity is quoted in watt-hours, the product of voltage and charge.",
        ),
    ),
    "engines": Topic(
        "askengineers",
        (
            "A diesel ignites its fuel by compression alone, without a spark.",
            "Higher compression ratios turn more of the heat into work.",
            "A turbocharger uses exhaust gas to push more air into the cylinders.",
            "Knock happens when the last of the mixture explodes before the flame arrives.",
            "The flywheel smooths out the pulses between the power strokes.",
            "Oil keeps the bearings floating on a film thinner than a hair.",
            "Valves stay open a little late because moving gas has inertia.",
            "Coolant runs under pressure so that it boils at a higher temperature.",
        ),
    ),
    "ethics": Topic(
        "askphilosophy",
        (
            "Consequentialists judge an act by what comes of it.",
            "Kant asks whether you could will your maxim as a law for everybody.",
            "Aristotle treats virtue as a skill that is learned by practice.",
            "Hume warned that no ought follows from an is alone.",
            "Contract theories ground duties in rules that nobody could reasonably reject.",
            "The trolley problem separates doing harm from allowing it.",
            "Relativism struggles to explain how a whole society could ever be wrong.",
            "Rawls has us choose principles without knowing our own place in society.",
        ),
    ),
    "logic": Topic(
        "askphilosophy",
        (
            "An argument is valid when true premises could not lead to a false conclusion.",
            "A sound argument is a valid one whose premises are true.",
            "Denying the antecedent is a classic mistake with conditionals.",
            "From a contradiction, classical systems let you derive anything at all.",
            "Quantifiers say whether a claim holds for all things or just for some.",
            "Truth tables settle every question about purely propositional formulas.",
            "Modal systems add operators for what is necessary and what is possible.",
            "Any consistent theory rich enough for arithmetic leaves some truths unproved.",
        ),
    ),
    "consciousness": Topic(
        "askphilosophy",
        (
            "The hard problem asks why there is anything it is like to be you.",
            "Functionalists identify mental states by what they do, not what they are made of.",
            "Nagel argued that we cannot know what it is like to be a bat.",
            "Global workspace theory treats awareness as broadcasting within the brain.",
            "Dualists hold that minds are something over and above matter.",
            "Illusionists claim that the inner glow itself is a trick of introspection.",
            "Blindsight shows that people can react to things they do not report seeing.",
            "Panpsychists think that experience goes all the way down to particles.",
        ),
    ),
    "theses": Topic(
        "askacademia",
        (
            "Agree on the scope with your supervisor before you write a chapter.",
            "Write the methods section first, because it is the easiest to get right.",
            "Keep a dated log of every decision, since examiners ask about them.",
            "A literature review should be arranged by question and not by author.",
            "Back up your drafts in two places that cannot fail together.",
            "State your contribution in one sentence on the very first page.",
            "A practice defence with friends uncovers the awkward questions early.",
            "Cite as you write, because lost references cost whole days later.",
        ),
    ),
    "grants": Topic(
        "askacademia",
        (
            "Reviewers decide on the first page, so put the question and the payoff there.",
            "Ask the funder's programme officer whether your idea fits the call.",
            "A realistic budget persuades more than a modest one.",
            "Preliminary data shows the panel that the method works in your hands.",
            "Name the main risk yourself and say what you will do about it.",
            "Read a successful application from your own department before starting.",
            "Start letters of support early, for signatures take weeks.",
            "A rejected proposal often succeeds after a careful second submission.",
        ),
    ),
    "conferences": Topic(
        "askacademia",
        (
            "One clear figure per slide is worth more than five crowded ones.",
            "Posters start more conversations than short talks usually do.",
            "Write to the people you hope to meet a week in advance.",
            "Rehearse aloud with a clock, because talks always run long.",
            "Travel funds for students often close months before the deadline for papers.",
            "The coffee breaks are where most collaborations begin.",
            "Repeat each question from the audience so that everybody hears it.",
            "A workshop is a kinder place for unfinished work than the main track.",
        ),
    ),
}
