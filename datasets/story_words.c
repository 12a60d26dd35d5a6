#include "datasets/story_words.h"

#include "common/base/base.h"

/* The first row names the columns. A column is expanded where a story says {role.column}. */
#define TABLE(name, columns)                                                                                 \
    static const StoryTable name = {name##_cells, columns, COUNT_OF(name##_cells) / (columns)-1}

/* clang-format off */
static const char *const people_cells[] = {
    "name",  "he",  "him", "his", "child",
    "Anna",  "she", "her", "her", "girl",
    "Clara", "she", "her", "her", "girl",
    "Emma",  "she", "her", "her", "girl",
    "Lily",  "she", "her", "her", "girl",
    "Maya",  "she", "her", "her", "girl",
    "Nina",  "she", "her", "her", "girl",
    "Rosa",  "she", "her", "her", "girl",
    "Ruth",  "she", "her", "her", "girl",
    "Sophie","she", "her", "her", "girl",
    "Zoe",   "she", "her", "her", "girl",
    "Ben",   "he",  "him", "his", "boy",
    "Felix", "he",  "him", "his", "boy",
    "Hugo",  "he",  "him", "his", "boy",
    "Jack",  "he",  "him", "his", "boy",
    "Leo",   "he",  "him", "his", "boy",
    "Max",   "he",  "him", "his", "boy",
    "Noah",  "he",  "him", "his", "boy",
    "Omar",  "he",  "him", "his", "boy",
    "Sam",   "he",  "him", "his", "boy",
    "Tom",   "he",  "him", "his", "boy",
};
TABLE(people, 5);

static const char *const elder_cells[] = {
    "name", "mother", "father", "grandmother", "grandfather", "aunt", "uncle",
};
TABLE(elder, 1);

static const char *const animal_cells[] = {
    "name",     "cried",     "food",    "home",
    "bear",     "growled",   "honey",   "cave",
    "bird",     "chirped",   "seeds",   "nest",
    "cat",      "purred",    "milk",    "basket",
    "dog",      "barked",    "meat",    "yard",
    "duck",     "quacked",   "bread",   "pond",
    "fox",      "yelped",    "berries", "den",
    "goat",     "bleated",   "grass",   "barn",
    "horse",    "snorted",   "hay",     "stable",
    "mouse",    "squeaked",  "cheese",  "hole",
    "rabbit",   "sniffed",   "carrots", "burrow",
    "squirrel", "chattered", "nuts",    "tree",
    "turtle",   "blinked",   "leaves",  "shell",
};
TABLE(animal, 4);

static const char *const color_cells[] = {
    "name", "red", "blue", "green", "yellow", "pink", "white", "black", "golden",
};
TABLE(color, 1);

static const char *const thing_cells[] = {
    "name", "ball", "bell", "book", "boat", "doll", "drum", "hat", "kite", "lamp", "ring", "scarf", "train",
    "whistle", "button",
};
TABLE(thing, 1);

static const char *const place_cells[] = {
    "name", "beach", "bridge", "castle", "farm", "forest", "lake", "market", "mill", "park", "river",
};
TABLE(place, 1);

static const char *const spot_cells[] = {
    "name", "under a bench", "behind a rock", "inside a barrel", "beside a well", "between two stones",
    "near a fence", "in the tall grass", "on a log",
};
TABLE(spot, 1);

static const char *const corner_cells[] = {
    "name", "under the bed", "behind the door", "in a drawer", "below the stairs", "inside a boot",
};
TABLE(corner, 1);

static const char *const weather_cells[] = {
    "name",   "end",
    "sunny",  "the sun was going down",
    "rainy",  "the rain had stopped",
    "windy",  "the wind had gone to sleep",
    "snowy",  "the snow had melted",
    "foggy",  "the fog had lifted",
    "cloudy", "the clouds had blown away",
};
TABLE(weather, 2);

static const char *const time_cells[] = {
    "name", "morning", "afternoon", "evening", "day",
};
TABLE(time, 1);

static const char *const trait_cells[] = {
    "name", "kind", "clever", "quiet", "brave", "curious", "gentle", "cheerful", "patient", "stubborn", "dreamy",
};
TABLE(trait, 1);

static const char *const mood_cells[] = {
    "name",    "after",
    "sad",     "happy",
    "worried", "calm",
    "lonely",  "loved",
    "angry",   "peaceful",
    "tired",   "strong",
    "ashamed", "proud",
};
TABLE(mood, 2);

static const char *const pet_cells[] = {
    "name", "Pepper", "Button", "Shadow", "Lucky", "Clover", "Pip",
};
TABLE(pet, 1);

static const char *const cake_cells[] = {
    "name", "apple", "lemon", "cherry", "carrot", "plum",
};
TABLE(cake, 1);

static const char *const ingredient_cells[] = {
    "name", "sugar", "butter", "flour", "cream", "salt",
};
TABLE(ingredient, 1);

static const char *const fear_cells[] = {
    "name", "the dark", "thunder", "deep water", "ghosts", "spiders",
};
TABLE(fear, 1);

static const char *const limb_cells[] = {
    "name", "knee", "foot", "arm", "hand", "leg",
};
TABLE(limb, 1);

static const char *const plant_cells[] = {
    "name", "bean", "melon", "rose", "tomato", "tulip", "turnip",
};
TABLE(plant, 1);

static const char *const dish_cells[] = {
    "name", "plate", "jug", "clock", "mirror", "comb",
};
TABLE(dish, 1);

static const char *const treasure_cells[] = {
    "name", "coins", "pearls", "candles", "marbles", "stamps",
};
TABLE(treasure, 1);

static const char *const picnic_cells[] = {
    "name", "cookies", "grapes", "soup", "pears", "buns",
};
TABLE(picnic, 1);

static const char *const number_cells[] = {
    "name", "two", "three", "four", "five", "six",
};
TABLE(number, 1);
/* clang-format on */

const StoryRole story_roles[STORY_ROLES] = {
    {"hero", &people},   {"friend", &people},    {"elder", &elder},       {"animal", &animal},
    {"color", &color},   {"thing", &thing},      {"place", &place},       {"spot", &spot},
    {"corner", &corner}, {"weather", &weather},  {"time", &time},         {"trait", &trait},
    {"mood", &mood},     {"pet", &pet},

    {"cake", &cake},     {"fear", &fear},        {"limb", &limb},         {"ingredient", &ingredient},
    {"plant", &plant},   {"dish", &dish},        {"treasure", &treasure}, {"picnic", &picnic},
    {"number", &number}, {"plot", &story_plots},
};
