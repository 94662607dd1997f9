// stories_words.h: the words of the stories' world: names, kinds, places, things. Only stories.cpp reads it.
#pragma once
#include <iterator>
#include <string_view>

using std::string_view;

enum Kind { child, grown_up, animal };

struct Name {
    string_view text;
    bool she;
};

static const Name children[] = {
    {"Mia", true},    {"Lily", true},  {"Anna", true},  {"Sara", true},  {"Emma", true},  {"Lucy", true},
    {"Nora", true},   {"Zoe", true},   {"Ella", true},  {"Ruby", true},  {"Amy", true},   {"Kate", true},
    {"Rosa", true},   {"Jane", true},  {"Ivy", true},   {"Maya", true},  {"Clara", true}, {"Molly", true},
    {"Alice", true},  {"Hana", true},  {"Tom", false},  {"Ben", false},  {"Max", false},  {"Sam", false},
    {"Leo", false},   {"Jack", false}, {"Tim", false},  {"Noah", false}, {"Finn", false}, {"Adam", false},
    {"Oscar", false}, {"Paul", false}, {"Luke", false}, {"Hugo", false}, {"Omar", false}, {"Peter", false},
    {"David", false}, {"Erik", false}, {"Milo", false}, {"Theo", false}};
static const Name pets[] = {{"Pip", false},  {"Dot", true},      {"Bobo", false},  {"Tilly", true},
                            {"Momo", true},  {"Rex", false},     {"Fluffy", true}, {"Buddy", false},
                            {"Coco", true},  {"Spot", false},    {"Daisy", true},  {"Nibbles", false},
                            {"Poppy", true}, {"Biscuit", false}, {"Honey", true},  {"Rusty", false},
                            {"Mimi", true},  {"Toby", false},    {"Pearl", true},  {"Chip", false},
                            {"Snowy", true}, {"Bruno", false},   {"Misty", true},  {"Ollie", false}};
static const Name elders[] = {{"Mom", true},       {"Dad", false},        {"Grandma", true},
                              {"Grandpa", false},  {"Aunt May", true},    {"Uncle Joe", false},
                              {"Miss Rose", true}, {"Farmer Bill", false}};

enum Skill { none, tall, flies_up, climbs };                         // how a helper reaches the top of a tree
struct Species {
    string_view text;
    Skill skill;
};
static const Species species[] = {
    {"dog", none},      {"cat", climbs},  {"rabbit", none}, {"fox", none},
    {"duck", none},     {"mouse", none},  {"frog", none},   {"squirrel", climbs},
    {"bird", flies_up}, {"bear", climbs}, {"pig", none},    {"goat", none},
    {"owl", flies_up},  {"turtle", none}, {"pony", none},   {"monkey", climbs}};

enum Trait : unsigned { breaks = 1, windy = 2, small = 4 };         // can break, be blown away, fit in a box
struct Noun {
    string_view text;
    unsigned traits = 0;
    string_view use = "play with", used = "played with";            // to fly a kite, she flew the kite
};
static const Noun toys[] = {{"kite", breaks | windy, "fly", "flew"},
                            {"ball", small, "throw", "threw"},
                            {"doll", breaks | small},
                            {"book", small, "read", "read"},
                            {"toy boat", breaks | small},
                            {"toy car", breaks | small},
                            {"toy train", breaks | small},
                            {"drum", breaks, "play", "played"},
                            {"hat", windy | small, "wear", "wore"},
                            {"scarf", windy | small, "wear", "wore"},
                            {"balloon", windy},
                            {"paper plane", windy | small, "fly", "flew"},
                            {"whistle", breaks | small, "blow", "blew"},
                            {"flute", breaks | small, "play", "played"},
                            {"top", breaks | small, "spin", "spun"},
                            {"puppet", breaks | small},
                            {"crown", breaks | small, "wear", "wore"},
                            {"bell", breaks | small, "ring", "rang"},
                            {"teddy bear", small, "hug", "hugged"},
                            {"toy robot", breaks | small},
                            {"wagon", breaks, "pull", "pulled"},
                            {"music box", breaks | small, "play", "played"},
                            {"toy horse", breaks | small},
                            {"ring", small, "wear", "wore"},
                            {"ribbon", windy | small, "wear", "wore"},
                            {"cape", windy | small, "wear", "wore"},
                            {"toy sword", breaks | small},
                            {"mask", breaks | small, "wear", "wore"}};
static const Noun foods[] = {{"apple"}, {"cookie"}, {"cake"}, {"pear"},   {"carrot"}, {"sandwich"},
                             {"bun"},   {"banana"}, {"plum"}, {"muffin"}, {"nut"},    {"orange"}};
static const Noun lamps[] = {{"lamp"}, {"candle"}, {"lantern"}}, boxes[] = {{"box"}, {"chest"}, {"basket"}};
static const Noun ladder = {"ladder"}, rope = {"rope"}, key = {"key"}, umbrella = {"umbrella"};
static const Noun glue = {"pot of glue"}, tape = {"roll of tape"};

static const string_view colours[] = {"red",    "blue",  "green", "yellow", "orange", "pink",
                                      "purple", "white", "brown", "black",  "silver", "golden"};
static const string_view tastes[] = {"sweet", "big", "fresh", "little", "tasty", "nice"};
static const string_view tool_looks[] = {"old", "small", "new", "big"};
static const string_view days[] = {"sunny", "warm", "cool", "quiet", "windy", "bright", "fine", "clear"};
static const string_view junk[] = {"an old shoe", "some dust", "a dead leaf",  "a spider",
                                   "a lost sock", "a snail",   "a broken cup", "a piece of string",
                                   "a coin",      "a button"};
static const string_view sizes[] = {"little", "small", "young"};

enum Area : unsigned { house = 1, yard = 2, outside = 4, trees = 8, wild = outside | trees, dim = 16 };
struct Place {
    string_view text, in;                                           // "park", "at the"
    unsigned area;
    string_view spots[4];
};
static const Place places[] = {
    {"garden", "in the", yard | trees, {"under the roses", "behind the pots", "in the grass", "by a fence"}},
    {"kitchen", "in the", house, {"under the table", "behind the stove", "by the sink", "under a chair"}},
    {"bedroom", "in the", house, {"under the bed", "behind the curtain", "by the window", "under a pillow"}},
    {"hall", "in the", house, {"behind the door", "by the stairs", "under the mirror", "behind the coats"}},
    {"attic", "in the", house | dim, {"behind a trunk", "under a rug", "by the chimney", "behind books"}},
    {"cellar", "in the", house | dim, {"behind a barrel", "under the steps", "by the wall", "behind jars"}},
    {"shed", "in the", yard | dim, {"behind the rake", "under the bench", "by the tools", "behind boards"}},
    {"barn", "in the", yard, {"in the hay", "behind the cart", "by the big door", "under an old sack"}},
    {"park", "in the", wild, {"under the bench", "behind the slide", "in the sandbox", "by the swings"}},
    {"pond", "by the", wild, {"in the reeds", "behind a big rock", "under a willow", "by the little dock"}},
    {"forest", "in the", wild, {"under a log", "behind a big tree", "in a pile of leaves", "by the stream"}},
    {"hill", "on the", wild, {"behind a stone", "in the clover", "under a bush", "by the path"}},
    {"beach", "at the", outside, {"in the sand", "behind a sand castle", "under a towel", "by a big shell"}},
    {"river", "by the", wild, {"under the bridge", "in the mud", "behind a boat", "by the mill"}},
    {"school", "at the", wild, {"under a desk", "behind the gate", "by the board", "under the steps"}},
    {"meadow", "in the", wild, {"in the flowers", "behind a gray stone", "under a thistle", "by the well"}},
    {"farm", "at the", wild, {"behind the hen house", "in the straw", "by the gate", "under the cart"}},
    {"cave", "in the", outside | dim, {"behind a rock", "in the corner", "by the wall", "under some moss"}}};
static constexpr int n_places = std::size(places);
static constexpr unsigned areas = house | yard | outside;

string_view place_name(int p) { return places[p].text; }
string_view spot_name(int p, int spot) { return places[p].spots[spot]; }

// One can walk about within an area, and the yard lies between the house and the rest of the world.
bool next_to(int p, int q) {
    return (places[p].area | places[q].area) & yard || places[p].area & places[q].area & areas;
}
