/* The plots, as templates (stories.h explains the notation). To keep every text unambiguous, the
 * alternatives of a choice differ before either ends, and a role's first mention is a word that only one of
 * its rows has. */
#include "datasets/story_words.h"

#include "common/base/base.h"

/* The title names those who matter at the same places in every story; what follows comes back to them. */
const char story_root[] =
    "[The|A] [story|tale] of {hero}, {friend}, a {animal} and a little {color} {thing}.\n{hero} was a "
    "{trait} {hero.child} who lived [near|beside|behind] the old {place} with {hero.his} dear {elder}.{plot}";

static const char *const plots[] = {
    "text",

    /* lost and found */
    " The little {color} {thing} was a gift from {hero.his} dear {elder}. [One|On a] {weather} {time}, "
    "{hero} took the little {color} {thing} to the old {place} and [lost|dropped|forgot] it there. "
    "{^hero.he} looked [everywhere|all around|up and down], but the little {color} {thing} was gone. {hero} "
    "felt {mood}. [Then|Soon|Just then] {friend} came along. \"[What did you lose|What is missing|What are "
    "you looking for]?\" asked {friend}. \"My little {color} {thing},\" said {hero}. \"[Then we will look "
    "for it together|Two can look better than one|I will help you to find it],\" said {friend}. They met a "
    "{animal}. The {animal} {animal.cried} and [ran|jumped|went] to a place {spot}. And what was there, "
    "{spot}? The little {color} {thing}! {hero} thanked {friend} and gave the {animal} some {animal.food}. "
    "When {weather.end}, {hero} was [not {mood} any more|no longer {mood}]. {^hero.he} felt {mood.after}, "
    "and {hero.his} dear {elder} was glad to see the little {color} {thing} again.",

    /* a small animal */
    " One {weather} {time}, {hero} and {friend} found a baby {animal} {spot} at the old {place}. The "
    "{animal} {animal.cried} because it [was lost|could not walk|was cold]. \"Do not be {mood},\" said "
    "{hero}. \"We will [take care of|look after] you.\" They carried the {animal} home and gave it the "
    "little {color} {thing}. The {animal} played with the little {color} {thing}. {^hero.his} dear {elder} "
    "brought some {animal.food}, and the {animal} slept [beside|next to] the little {color} {thing}. \"I "
    "will call the {animal} {pet},\" said {friend}. After {number} days, {pet} was [not {mood} any more|no "
    "longer {mood}]. {pet} was {mood.after} and wanted to go home. \"Goodbye, {pet},\" said {hero}. The "
    "{animal} {animal.cried} and ran to its {animal.home}. But every {time}, {pet} came to see {hero} and "
    "{friend}, and slept beside the little {color} {thing} again.",

    /* the birthday cake */
    " It was the birthday of {friend}, and {hero} wanted to bake a {cake} cake [as a surprise|as a "
    "present|before noon]. \"Yes,\" said {hero.his} dear {elder}, \"but we have no {ingredient}.\" So {hero} "
    "took the little {color} {thing} and went to get some {ingredient}. On the way {hero.he} met a hungry "
    "{animal}. {^hero.he} gave the {animal} some {animal.food}. The {animal} {animal.cried} and showed "
    "{hero} where the best {ingredient} was. [Soon|At last|An hour later] the {cake} cake was in the oven. "
    "\"This is the best {cake} cake [ever|of all|in the world],\" said {friend}. {hero} gave a big piece to "
    "{friend}, and a small piece to the {animal}. \"And the little {color} {thing}?\" asked {friend}. \"The "
    "little {color} {thing} is for you,\" said {hero}.",

    /* afraid */
    " But {hero} was afraid of {fear}. {^hero.his} dear {elder} gave {hero.him} a little {color} {thing}. "
    "\"When you are afraid of {fear}, hold this little {color} {thing},\" said {hero.his} dear {elder}. "
    "[One|On a] {weather} {time}, {friend} [came running|came in tears|called out]. \"My {animal} is lost at "
    "the old {place},\" cried {friend}, \"and I am too {mood} to look.\" {hero} thought of {fear}, but "
    "{hero.he} held the little {color} {thing} and went to the old {place} with {friend}. There, {spot}, sat "
    "the {animal}. It {animal.cried} when it saw {friend}. \"You are not afraid of {fear},\" said {friend}. "
    "\"I was,\" said {hero}, \"but my dear {elder} gave me this little {color} {thing}.\" When "
    "{weather.end}, {friend} was {mood.after} again, and the {animal} was [asleep|safe] in its "
    "{animal.home}.",

    /* the race */
    " There was a race one {weather} {time}. The prize was a little {color} {thing}. {hero} wanted to win "
    "the little {color} {thing}, and {friend} wanted to win it too. \"I am [faster than you|going to win|a "
    "good runner],\" said {friend}. They ran [past the trees|over the grass|around the houses]. A {animal} "
    "{animal.cried} at them. Then {friend} fell and hurt {friend.his} {limb}. {hero} could see the little "
    "{color} {thing}, but {hero.he} stopped. \"Does your {limb} hurt?\" asked {hero}. \"Yes,\" said "
    "{friend}, \"but you will lose the race.\" \"A friend is better than a little {color} {thing},\" said "
    "{hero}. {hero} held the {limb} of {friend}, and the {animal} was faster than both. When {weather.end}, "
    "{hero.his} dear {elder} gave the little {color} {thing} to {hero}, the {trait} {hero.child}.",

    /* the seed */
    " {^hero.his} dear {elder} gave {hero} a {plant} seed. [One|On a] {weather} {time}, {hero} put the "
    "{plant} seed near the little {color} {thing}. \"No {plant} will grow near a little {color} {thing},\" "
    "said {friend}. But {hero} gave it water every {time}. One {time} a {animal} wanted to eat the {plant}. "
    "The {animal} {animal.cried}, and {hero} gave it some {animal.food} instead. After {number} weeks there "
    "was a [big|fine|tall] {plant} near the little {color} {thing}. \"I was wrong,\" said {friend}. \"Your "
    "{plant} is beautiful.\" \"It took {number} weeks,\" said {hero}. Then {hero} gave the {plant} to "
    "{hero.his} dear {elder}, and gave the little {color} {thing} to {friend}.",

    /* something broke */
    " The little {color} {thing} belonged to {hero.his} dear {elder}. [One|On a] {weather} {time}, {hero} "
    "and {friend} [played with|ran around|fought over] it, and the little {color} {thing} fell and broke. "
    "{hero} felt {mood}. {^hero.he} hid the little {color} {thing} {corner}. \"Where is my little {color} "
    "{thing}?\" asked {hero.his} dear {elder}. \"The {animal} broke it,\" said {hero}. The {animal} "
    "{animal.cried} and ran to its {animal.home}. {hero} felt even more {mood}. \"No, it was not the "
    "{animal},\" said {hero}. \"I broke the little {color} {thing} and hid it {corner}.\" \"Thank you for "
    "the truth,\" said {hero.his} dear {elder}. {friend} [mended|fixed|painted] the little {color} {thing}. "
    "{hero} gave the {animal} some {animal.food}. When {weather.end}, {hero} was [not {mood} any more|no "
    "longer {mood}], but {mood.after}.",

    /* mine and yours */
    " {hero} had just got the little {color} {thing}. [One|On a] {weather} {time}, {hero.he} took the little "
    "{color} {thing} outside. {friend} was there with a {animal}. \"May I play with your little {color} "
    "{thing}?\" asked {friend}. \"No,\" said {hero}, \"it is mine.\" So {friend} and the {animal} played "
    "{spot}. The {animal} {animal.cried} and {friend} laughed. {hero} felt {mood}. It was [no fun|not "
    "nice|dull] to have a little {color} {thing} and no friend. {^hero.he} went to {friend}, {spot}. \"You "
    "may have the little {color} {thing} [for a while|until tomorrow|now],\" said {hero}. \"Then you may "
    "play with the {animal},\" said {friend}. When {weather.end}, they gave the {animal} some {animal.food}. "
    "{hero} was [not {mood} any more|no longer {mood}]. {^hero.he} felt {mood.after}. \"The little {color} "
    "{thing} is ours now,\" said {hero}.",

    /* the wish */
    " At the old {place}, one {weather} {time}, {hero} met a {animal} that could [talk|speak|do magic]. "
    "\"Give me some {animal.food},\" said the {animal}, \"and I will give you {number} wishes.\" {hero} gave "
    "the {animal} some {animal.food} and wished for a little {color} {thing}. The {animal} {animal.cried}, "
    "and there was a little {color} {thing} {spot}. But then {hero} saw {friend}, who looked {mood}. \"I "
    "lost my {dish},\" said {friend}. {hero} [turned|went back|ran back] to the {animal}. \"Take my little "
    "{color} {thing},\" said {hero}, \"and give {friend} the {dish}.\" The {animal} {animal.cried}. The "
    "little {color} {thing} was gone. There, {spot}, was the {dish} of {friend}. {friend} was [not {mood} "
    "any more|no longer {mood}], but {mood.after}. \"You had {number} wishes,\" said the {animal}, \"and the "
    "{trait} {hero.child} used one for a friend.\"",

    /* the map */
    " {hero} and {friend} found an map {corner}. [It showed|On it was] the way to the old {place}. [One|On "
    "a] {weather} {time}, they packed some {picnic} and the little {color} {thing} and went to the old "
    "{place}. A {animal} sat {spot}. The {animal} {animal.cried}. \"It wants our {picnic},\" said {friend}. "
    "\"No,\" said {hero}, \"a {animal} wants {animal.food}.\" {hero} gave the {animal} some {animal.food} "
    "and put down the little {color} {thing}, and the {animal} let them look {spot}. There they found "
    "{number} {treasure}. They took the little {color} {thing}, ate the {picnic} and "
    "[counted|shared|admired] the {number} {treasure}. When {weather.end}, they put the {treasure} {corner}, "
    "where they had found the map. \"We went far,\" said {friend}, \"with a little {color} {thing} and "
    "{number} friends.\"",
};

const StoryTable story_plots = {plots, 1, COUNT_OF(plots) - 1};
