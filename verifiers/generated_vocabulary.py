"""The words that generated problems are made of.

Words are drawn by position, so the order and the number of the entries are part of the problems
that a seed gives.
"""

VOCABULARY: dict[str, tuple[str, ...]] = {
    kind: tuple(words.split())
    for kind, words in {
        "name": (
            "Adaeze Agnes Alasdair Amara Anselm Araceli Arvid Beatriz Benedikt Bohdan "
            "Calliope Camila Caspian Chidi Cordelia Cosima Dagny Dariusz Delphine Dimitri "
            "Dorothea Eamon Edwina Efua Eleni Emeka Enzo Esperanza Fabrizio Farida Fiona "
            "Florian Freya Gareth Giulia Gustavo Habiba Hamish Haruki Hedwig Hermione Hiroko "
            "Ignacio Ilse Imani Ingrid Isidora Jarek Jemima Jorge Joaquin Kaito Kalinda Karim "
            "Katya Kenji Kofi Lachlan Leila Lorenzo Lucinda Lysander Magnus Malik Marisol "
            "Matteo Meera Milos Nadia Naveen Nikolai Noor Octavia Olumide Ophelia Oskar Padma "
            "Paloma Percy Philippa Quentin Rafael Ramona Rhiannon Rohan Rosalind Rupert Salma "
            "Santiago Saskia Selim Sigrid Soren Sunita Tadeo Tamsin Tariq Thandiwe Theodora "
            "Tomasz Ulrich Umberto Valentina Vikram Wanda Wolfgang Xiomara Yannick Yusuf "
            "Zainab Zelda Zoltan"
        ),
        "place": (
            "Aberdeen Alicante Antwerp Bergen Bilbao Bordeaux Bratislava Brno Cardiff Cusco "
            "Dakar Delft Dresden Dunedin Durban Galway Gdansk Ghent Graz Halifax Hobart Izmir "
            "Jaipur Kampala Kobe Krakow Leipzig Ljubljana Lusaka Maastricht Malmo Medellin "
            "Mombasa Nantes Odense Osaka Palermo Plovdiv Porto Quito Riga Rosario Rouen "
            "Salzburg Sapporo Seville Tampere Tallinn Turin Uppsala Valparaiso Verona "
            "Windhoek Yerevan Zagreb"
        ),
        "adjective": (
            "antique battered bright broad brittle bronze careful cheerful clumsy compact "
            "crooked crowded curved damp delicate dusty elegant empty enormous faded famous "
            "fragile frozen generous gentle gigantic glossy golden graceful handsome hasty "
            "heavy hidden hollow honest humble icy jagged jolly lively lonely lopsided lucky "
            "magnetic marble mighty modest muddy narrow noisy ornate patient peculiar "
            "polished proud quaint quiet ragged restless rickety rugged rusty secret shabby "
            "shiny silent silver sleepy slender smooth spacious speckled splendid stubborn "
            "sturdy sunny tidy tiny tranquil upright velvet weary wicker windy wooden"
        ),
        "goods": (
            "almanacs anchors aprons baskets beacons bells bicycles blankets bonnets bookends "
            "bracelets brooms buckets buttons cameras candles canoes carpets chairs chisels "
            "clocks compasses cushions dumplings easels envelopes feathers fiddles flutes "
            "footballs garlands goblets hammers hammocks harmonicas helmets jackets jars "
            "kettles kites lanterns ladders magnets mandolins mirrors mittens muffins napkins "
            "necklaces notebooks oars ornaments paddles pancakes parasols pencils pillows "
            "pitchers postcards puppets quilts ribbons rugs saddles sandals scarves scissors "
            "shovels skates sleds spoons stamps stools suitcases telescopes tents thimbles "
            "tiles toolboxes trumpets umbrellas vases violins wagons wheelbarrows whistles "
            "wreaths yardsticks"
        ),
        "shop": (
            "apothecary arcade bakery bazaar boutique brewery cannery chandlery cooperage "
            "creamery dairy depot emporium florist foundry gallery greengrocer haberdashery "
            "hatter kiosk locksmith mill nursery pharmacy pottery ropewalk sawmill smithy "
            "stationer storehouse tailor tannery toyshop warehouse winery workshop"
        ),
        "job": (
            "accountants acrobats actors archers architects astronomers bakers barbers "
            "beekeepers bookbinders botanists bricklayers butchers carpenters cellists "
            "chemists clerks cobblers conductors cyclists dancers dentists divers drummers "
            "editors electricians engravers farmers fencers firefighters fishers gardeners "
            "geologists glaziers goalkeepers goldsmiths guards harpists historians jewellers "
            "jugglers lawyers librarians lifeguards mechanics miners musicians nurses "
            "painters pianists pilots plumbers poets porters postmen printers rangers "
            "referees sailors sculptors shepherds skiers soldiers surgeons surveyors teachers "
            "translators waiters weavers welders wrestlers"
        ),
        "animal": (
            "alpacas antelopes badgers beavers bison buffaloes camels canaries cockatoos "
            "cranes donkeys ducks falcons ferrets finches foxes frogs geese gerbils goats "
            "hamsters hedgehogs herons horses iguanas jackdaws kangaroos lambs lemurs lizards "
            "llamas magpies moles otters owls parrots peacocks pelicans penguins pigeons "
            "ponies quails rabbits ravens sheep sparrows squirrels storks swans tortoises "
            "turkeys turtles walruses wolves yaks"
        ),
        "vehicle": (
            "barge bus cablecar canoe caravan carriage catamaran coach dinghy ferry glider "
            "helicopter hovercraft jeep kayak lorry minibus monorail moped motorcycle raft "
            "rickshaw rocket schooner scooter sledge snowmobile speedboat steamer submarine "
            "tractor tram trolley truck van yacht zeppelin"
        ),
        "colour": (
            "amber aquamarine azure beige black blue bronze brown burgundy charcoal crimson "
            "cyan emerald fuchsia green grey indigo ivory khaki lavender lilac magenta maroon "
            "mauve navy ochre olive orange pink purple red ruby saffron scarlet tan teal "
            "turquoise violet white yellow"
        ),
        "container": (
            "barrel basin basket beaker bin bowl bucket cabinet canister carton case casket "
            "chest churn cooler crate cupboard drawer flask hamper hopper jar jug kettle "
            "locker pail pot pouch sack satchel tank tin tray trough trunk tub tumbler urn "
            "vase vat"
        ),
        "liquid": (
            "ale brine broth cider cocoa coffee cordial cream dye gravy honey ink juice "
            "kerosene lemonade linseed milk molasses mustard nectar oil paint perfume petrol "
            "resin sauce shampoo soup syrup tea turpentine varnish vinegar wax whey"
        ),
        "crop": (
            "apples apricots artichokes asparagus aubergines avocados bananas barley "
            "beetroots blueberries cabbages carrots cauliflowers celery cherries chestnuts "
            "coconuts corn cranberries cucumbers dates figs garlic gooseberries grapes "
            "hazelnuts kiwis leeks lemons lentils lettuces limes mangoes melons mushrooms "
            "nectarines oats olives onions papayas parsnips peaches pears peas peppers "
            "pineapples plums potatoes pumpkins quinces radishes raspberries rhubarb rye "
            "spinach squashes strawberries tomatoes turnips walnuts wheat yams"
        ),
        "event": (
            "auction ball banquet bazaar camp carnival ceremony clinic concert conference "
            "contest convention debate excursion exhibition expedition fair festival gala "
            "harvest hike jamboree lecture marathon market masquerade meeting pageant parade "
            "party performance picnic pilgrimage play procession race rally recital regatta "
            "rehearsal retreat reunion safari seminar show symposium tournament vigil voyage "
            "wedding"
        ),
        "material": (
            "alabaster aluminum brass cedar cement ceramic clay cobalt copper coral cork "
            "crystal ebony flint glass granite ice iron ivory jade lead limestone mahogany "
            "marble nickel oak pewter pine plaster plastic quartz rubber sandstone slate soap "
            "steel teak tin walnut wax willow zinc"
        ),
        "measure": (
            "armfuls bags barrels baskets bins boxes buckets bundles bushels carts cases "
            "chests crates hampers handfuls jars kilograms nets pails pecks pounds punnets "
            "sacks stones tons trays troughs tubs wagonloads"
        ),
        "month": (
            "January February March April May June July August September October November December"
        ),
        "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
        "money": "crowns dinars dollars drachmas ducats euros florins francs guineas kroner lira "
        "marks pesetas pesos pounds rupees rupiah shekels shillings thalers won yen zloty",
        "var": "a b c d h k p q r s t u v w x y z",
        "index": "i j k l n r s t",
        "function": "f g h F G H",
        "point": "A B C D E F G H J K L M N P Q R S T U V W X Y Z",
        "greek": r"\alpha \beta \gamma \delta \theta \lambda \mu \rho \sigma \phi \omega",
        "small": "two three four five six seven eight nine ten eleven twelve",
        "ordinal": "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
        "shape": (
            "badge banner courtyard field flag garden greenhouse hall lawn meadow mosaic "
            "panel paddock park patio pavilion plaza pond poster quilt rink rug sail screen "
            "stage tablecloth terrace tile vineyard yard"
        ),
    }.items()
}
"""For each kind of word, the words of that kind."""
