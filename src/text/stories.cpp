// Short stories from a grammar of our own: a corpus small enough to live in the binary, and with something to
// learn in it: who holds what, who is where, whom a pronoun means, what follows from what.
//
// It is a simulation, not a list of templates. A world holds three persons and three things; an event is a
// row of a table: what must be true before it, what it changes, and several ways to say it. A plot makes
// only a problem (lost, broken, too high, ...); fetch() then solves it with whatever the world offers, and
// that may need another thing first: the kite is in a tree, the ladder is with Tom, Tom wants a plum for
// it. Every sentence is printed by the event that makes it true, so a story cannot contradict itself.
//
// It is not a language model's idea of a child's story, and makes no claim to literature.
//
// Contents:   [2] dice   [3] the world   [4] the table of events   [5] saying it
//             [6] ways to get a thing   [7] plots   [8] a tale, a set       ([1] words: stories_words.h)
#include "src/text/stories.h"
#include "src/base/error.h"
#include "src/base/random.h"
#include "src/text/stories_words.h"

#include <iterator>

using std::string;
using std::string_view;
// ------------------------------------------------------------------------------------------------- [2] dice

// Each roll is a fixed function of the last state, on every machine (std's distributions are not). Two rolls
// stand in one expression only inside braces: there alone C++ says which of them comes first.
struct Dice : Random {
    int below(int n) { return int((next() >> 32) * uint64_t(n) >> 32); }       // by the high bits
    bool chance(int percent) { return below(100) < percent; }
    template <class Row, size_t n> const Row &one_of(const Row (&table)[n]) { return table[below(n)]; }
};

// ------------------------------------------------------------------------------------------- [3] the world

enum { hero, pal, helper };                                         // persons
enum { toy, tool, other };                                          // things

struct Person {
    const Name *name;
    Kind kind;
    string_view species, size;
    Skill skill;
    bool generous;                                                  // gives when asked; others want something
    int place = -1, spot = -1;                                      // spot: the person hides there
    int believes[3] = {-1, -1, -1};                                 // where this person thinks each thing is
    unsigned been = 0;                                              // places, a bit each
    int named = -9;                                                 // sentence of the last mention
    bool known = false, stuck = false, hungry = false;              // known to the reader
};

struct Thing {
    const Noun *noun = nullptr;
    string_view look;                                               // "red"
    int place = -1, holder = -1, spot = -1, owner = -1;
    bool broken = false, high = false, locked = false, gone = false;
    bool known = false, look_told = false;                          // to the reader
};

struct World {
    Person who[3];
    Thing thing[3];

    bool together(int a, int b) const { return who[a].place == who[b].place; }
    bool holds(int a, int x) const { return thing[x].holder == a; }
    bool lies(int a, int x) const {                                 // a stands where x lies
        return thing[x].holder < 0 && !thing[x].gone && thing[x].place == who[a].place;
    }
    bool free(int a, int x) const { return lies(a, x) && !thing[x].high && !thing[x].locked; }
    void put(int x, int holder, int place, int spot) {              // held by somebody, or lying at a place
        thing[x].holder = holder;
        thing[x].place = place;
        thing[x].spot = spot;
        thing[x].high = thing[x].locked = false;
    }
    void hand(int x, int a) { put(x, a, -1, -1); }
    void witness(int x) {                                           // who is there learns where x is
        for (Person &a : who)
            if (a.place == thing[x].place) a.believes[x] = thing[x].place;
    }
    void eat(int a, int x) {
        put(x, -1, -1, -1);
        thing[x].gone = true;
        who[a].hungry = false;
    }
    void walk(int a, int p) {
        who[a].been |= 1u << p;
        who[a].place = p;
        who[a].spot = -1;
    }
};

// ----------------------------------------------------------------------------------- [4] the table of events

// In a phrase {A} is a name or he/she, {A.him} and {A.his} the other cases, {A.name} always the name; {x}
// is "the kite" or "the red kite" ("a red kite" when it is new), {x.it} "it" where that is clear, {x.bare}
// "kite", {x.use} and {x.used} its verb; {p} "in the park", {p.to} "to the park", {p.the} "the park";
// {spot} is the event's spot, {day} a kind of day. Whether a pronoun is clear, [5] decides.
struct Rule {
    Act act;
    bool (*needs)(const World &w, const Roles &r);                  // null: nothing
    void (*does)(World &w, const Roles &r);                         // null: nothing changes
    std::vector<string_view> says;                                  // empty: it happens untold
};
#define NEEDS(condition) []([[maybe_unused]] const World &w, const Roles &r) -> bool { return condition; }
#define DOES(...) [](World &w, const Roles &r) -> void { __VA_ARGS__; }

static const Rule rules[] = {
    {Act::start, nullptr, DOES(w.walk(r.A, r.p)), {}},
    {Act::exist, nullptr, DOES(w.put(r.x, r.A, r.p, r.spot); w.thing[r.x].owner = r.A), {}},
    {Act::once,
     NEEDS(w.who[r.A].place == r.p),
     nullptr,
     {"Once upon a time, there was {A}. One day, {A.name} was {p}.", "One {day} day, {A} was {p}.",
      "It was a {day} morning, and {A} was {p}.", "{A} was {p} on a {day} day.",
      "There once was {A}. It was a {day} day, and {A} was {p}.", "One {day} afternoon, {A} was {p}.",
      "{A} loved {day} days. One such day, {A} was {p}.", "On a {day} morning, {A} came to {p.the}."}},
    {Act::kind,
     NEEDS(w.who[r.A].generous),
     nullptr,
     {"{A} was kind and liked to share.", "{A} was always nice to others.", "{A} had a kind heart."}},
    {Act::selfish,
     NEEDS(!w.who[r.A].generous),
     nullptr,
     {"{A} did not like to share.", "{A} was not very nice to others.", "{A} liked to keep things."}},
    {Act::meet,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"{A.his} friend {B.name} was there too.", "{B} was there too.", "{A} was with {A.his} friend, {B.new}.",
      "{A} was playing with {B.him}."}},
    {Act::has,
     NEEDS(w.holds(r.A, r.x)),
     nullptr,
     {"{A} had {x}.", "{A} had {x} and loved {x.it} very much.", "{A} liked to {x.use} {x}.",
      "{A} had {x}. It was a gift.", "{A} was very proud of {x}."}},
    {Act::sees,
     NEEDS(w.together(r.A, r.B) && w.holds(r.B, r.x)),
     nullptr,
     {"{A} saw that {B} had {x}.", "{B} was holding {x}.", "{A} looked up. {B} had {x}!", "{B} had {x}."}},
    {Act::go,
     NEEDS(next_to(w.who[r.A].place, r.p)),
     DOES(w.walk(r.A, r.p)),
     {"{A} went {p.to}.", "{A} walked {p.to}.", "{A} ran {p.to}.", "Then {A} went {p.to}.",
      "{A} hurried {p.to}.", "{A} made {A.his} way {p.to}."}},
    {Act::set_off,
     NEEDS(next_to(w.who[r.A].place, r.p)),
     DOES(w.walk(r.A, r.p)),
     {"So {A} went {p.to}.", "So {A} set off {p.to}.", "So {A} ran {p.to}.", "{A} hurried {p.to}."}},
    {Act::through,
     NEEDS(!next_to(w.who[r.A].place, r.p)),
     DOES(w.walk(r.A, r.p)),
     {"{A} went through the garden {p.to}.", "{A} ran across the garden {p.to}.",
      "{A} walked all the way {p.to}.", "{A} crossed the garden and went {p.to}."}},
    {Act::lead,
     NEEDS(w.together(r.A, r.B) && next_to(w.who[r.A].place, r.p)),
     DOES(w.walk(r.A, r.p); w.walk(r.B, r.p)),
     {"{A.name} and {B.name} went {p.to}.", "{A.name} and {B.name} walked {p.to}.",
      "{A} took {B.him} {p.to}.", "{A} and {B} ran {p.to} together.",
      "\"Come with me!\" {A.said}, and {A} and {B} went {p.to}."}},
    {Act::lead_through,
     NEEDS(w.together(r.A, r.B) && !next_to(w.who[r.A].place, r.p)),
     DOES(w.walk(r.A, r.p); w.walk(r.B, r.p)),
     {"{A.name} and {B.name} went through the garden {p.to}.",
      "{A.name} and {B.name} walked all the way {p.to}.", "{A} and {B} crossed the garden and went {p.to}."}},
    {Act::take,
     NEEDS(w.free(r.A, r.x)),
     DOES(w.hand(r.x, r.A)),
     {"{A} picked up {x}.", "{A} took {x} out.", "{A} took {x} and held it tight.",
      "{A} took {x} with a smile."}},
    {Act::find,
     NEEDS(w.free(r.A, r.x) && w.thing[r.x].spot == r.spot),
     DOES(w.hand(r.x, r.A)),
     {"{A} looked {spot}, and there was {x.the}!", "{A} looked {spot} and found {x}!",
      "At last, {A} found {x} {spot}.", "{A} saw something {spot}. It was {x.the}!",
      "And there, {spot}, {A} found {x}.", "{A} bent down and found {x} {spot}.",
      "Then {A} looked {spot}. There was {x.the}!", "What was that {spot}? It was {x.the}! {A} picked it up.",
      "{A} looked all around, and found {x} {spot}."}},
    {Act::vain,
     NEEDS(!w.lies(r.A, r.x) && w.who[r.A].place == r.p),
     DOES(w.who[r.A].believes[r.x] = -1),
     {"{A} looked {spot}, but {x} was not there.", "{A} looked and looked {p}, but could not find {x.it}.",
      "{A} looked {spot}. No {x.bare}!", "{A} searched {p}, but there was no {x.bare}.",
      "{A} looked {spot}, but all {A} found was {junk}."}},
    {Act::put,
     NEEDS(w.holds(r.A, r.x) && w.who[r.A].place == r.p),
     DOES(w.put(r.x, -1, r.p, r.spot); w.witness(r.x)),
     {"{A} put {x} {spot}.", "{A} left {x} {spot} and went away for a while.", "{A} laid {x} down {spot}."}},
    {Act::carry_off,
     NEEDS(w.free(r.A, r.x) && !w.together(r.A, r.B)),
     DOES(w.walk(r.A, r.p); w.put(r.x, -1, r.p, r.spot); w.witness(r.x)),
     {"{A} took {x} {p.to} and hid it {spot}.", "While {B} was away, {A} put {x} {spot} {p}.",
      "{A} played with {x} {p} and left it {spot}.", "{A} moved {x} {p.to} and laid it {spot}."}},
    {Act::drop,
     NEEDS(w.holds(r.A, r.x) && w.who[r.A].place == r.p),
     DOES(w.put(r.x, -1, r.p, r.spot); if (w.together(helper, r.A)) w.who[helper].believes[r.x] = r.p),
     {"But {x} fell {spot}, and {A} did not see it.", "{A} forgot {x} {spot}.",
      "When {A} was not looking, {x} fell {spot}.", "{A} left {x} {spot} and forgot all about {x.it}."}},
    {Act::miss,
     NEEDS(!w.holds(r.A, r.x)),
     nullptr,
     {"Later, {A} wanted to {x.use} {x}, but it was gone.", "\"Oh no! Where is my {x.bare}?\" {A.said}.",
      "Then {A} saw that {x} was gone.", "\"My {x.bare} is lost!\" {A.cried}."}},
    {Act::sad,
     nullptr,
     nullptr,
     {"{A} was very sad.", "{A} felt sad and began to cry.", "{A} sat down and cried.", "{A} was upset.",
      "A tear ran down {A.his} face.", "{A} wanted to cry.", "{A} did not know what to do."}},
    {Act::sad_for,
     NEEDS(!w.holds(r.A, r.x) || w.thing[r.x].broken),
     nullptr,
     {"{A} was sad because {x} was {state}.", "{A} cried because {x} was {state}.",
      "{x} was {state}, and {A} was very sad.", "{A} was upset that {x} was {state}."}},
    {Act::happy,
     nullptr,
     nullptr,
     {"{A} was very happy.", "{A} smiled.", "{A} jumped for joy.", "{A} had a big smile on {A.his} face.",
      "{A} was so glad.", "{A} laughed and danced.", "Now {A} was happy.", "\"Hooray!\" {A.cried}.",
      "{A} felt warm and happy inside."}},
    {Act::proud,
     nullptr,
     nullptr,
     {"{A} felt proud.", "{A} was proud and happy.", "\"I did it!\" {A.said}."}},
    {Act::ask_where,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"\"Have you seen {x.the}?\" {A} asked {B.him}.", "{A} asked {B.him}, \"Do you know where {x.the} is?\"",
      "{A} asked {B.him} about {x}.", "\"{B.name}, where is {x.the}?\" {A.asked}."}},
    {Act::tell_where,
     NEEDS(w.together(r.A, r.B) && w.thing[r.x].place == r.p && w.who[r.B].believes[r.x] == r.p),
     DOES(w.who[r.A].believes[r.x] = r.p),
     {"\"Yes, I saw {x.it} {p},\" {B.said}.", "\"Go and look {p},\" {B.said}.", "\"It is {p},\" {B} said.",
      "{B} said, \"I think it is {p}.\"", "\"Try to look {p},\" {B} told {A.him}."}},
    {Act::tell_here,
     NEEDS(w.together(r.A, r.B) && w.lies(r.B, r.x) && w.thing[r.x].spot == r.spot),
     DOES(w.who[r.A].believes[r.x] = r.p),
     {"\"Look {spot},\" {B.said}.", "\"I saw {x.it} {spot},\" {B.said}.", "\"It is {spot},\" {B} said.",
      "{B} said, \"Did you look {spot}?\""}},
    {Act::unknown,
     NEEDS(w.together(r.A, r.B) && w.who[r.B].believes[r.x] < 0),
     nullptr,
     {"\"No, I have not seen it,\" {B.said}.", "{B} did not know.", "\"I do not know,\" {B.said}."}},
    {Act::notice,
     NEEDS(w.lies(r.A, r.x)),
     DOES(w.who[r.A].believes[r.x] = w.who[r.A].place),
     {"Inside was {x}!", "{A} looked inside. There was {x}!", "In it, {A} saw {x}."}},
    {Act::need,
     nullptr,
     nullptr,
     {"{A} needed {x.a}.", "\"I need {x.a},\" {A.said}.", "{A} had an idea. {x.a} would help!",
      "\"If only I had {x.a}!\" {A} thought."}},
    {Act::ask_for,
     NEEDS(w.together(r.A, r.B) && w.holds(r.B, r.x)),
     nullptr,
     {"\"May I have {x.the}, please?\" {A} asked {B.him}.", "{A} asked {B.him} for {x}.",
      "\"Can I use {x.the}?\" {A.asked}.", "\"Please, may I use your {x.bare}?\" {A} asked {B.him}."}},
    {Act::refuse,
     NEEDS(w.holds(r.A, r.x) && !w.who[r.A].generous),
     nullptr,
     {"\"No, it is mine,\" {A.said}.", "{A} shook {A.his} head. \"No,\" {A} said.", "\"No!\" {A.said}."}},
    {Act::regret,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"Then {A} saw that {B} was sad.", "{A} looked at {B.him} and felt bad.", "{A} thought about it.",
      "\"I was not nice,\" {A} thought."}},
    {Act::want,
     NEEDS(w.holds(r.A, r.x) && !w.holds(r.A, r.y)),
     nullptr,
     {"\"You can have {x.it} for {y.a},\" {A.said}.",
      "\"Bring me {y.a}, and you can have {x.it},\" {A.said}.",
      "\"I would like {y.a} for {x.it},\" {A} said."}},
    {Act::give,
     NEEDS(w.together(r.A, r.B) && w.holds(r.A, r.x)),
     DOES(w.hand(r.x, r.B)),
     {"{A} gave {x} to {B.him}.", "\"Here you are,\" {A.said}, and gave {x} to {B.him}.",
      "{A} smiled and gave {B.him} {x.the}.", "\"This is for you,\" {A.said}, and {B} took {x}.",
      "{A} handed {x} to {B.him}.", "\"Take it,\" {A.said}, and held out {x}. {B.name} took it."}},
    {Act::trade,
     NEEDS(w.together(r.A, r.B) && w.holds(r.A, r.x) && w.holds(r.B, r.y)),
     DOES(w.hand(r.x, r.B); w.hand(r.y, r.A)),
     {"{A} gave {x} to {B.him}, and {B} gave {y} to {A.him}.", "So {A.name} got {y}, and {B.name} got {x}.",
      "{A.name} and {B.name} traded {x} for {y}."}},
    {Act::lend,
     NEEDS(w.together(r.A, r.B) && w.holds(r.A, r.x)),
     DOES(w.hand(r.x, r.B)),
     {"\"You can try it,\" {A.said}, and gave {x} to {B.him}.", "{A} let {B.him} {x.use} {x}.",
      "{B} wanted to {x.use} {x}, so {A} gave {x.it} to {B.him}."}},
    {Act::use,
     NEEDS(w.holds(r.A, r.x)),
     nullptr,
     {"{A} {x.used} {x} {p}.", "{A} {x.used} {x} for a long time.", "It was fun to {x.use} {x}.",
      "{A} wanted to {x.use} {x} all day."}},
    {Act::use_both,
     NEEDS(w.together(r.A, r.B) && (w.holds(r.A, r.x) || w.holds(r.B, r.x))),
     nullptr,
     {"{A.name} and {B.name} took turns with {x}.", "Then {A.name} and {B.name} {x.used} {x} together.",
      "{A.name} and {B.name} {x.used} {x} for a long time.",
      "{A.name} and {B.name} shared {x}. They had a lot of fun."}},
    {Act::wreck,
     NEEDS(w.holds(r.A, r.x) && !w.thing[r.x].broken),
     DOES(w.thing[r.x].broken = true),
     {"{A} was not careful, and {x} broke.", "Snap! {A} pulled too hard, and {x} broke.",
      "{A} fell down, and {x} broke.", "Crack! {A} hit a stone, and {x} broke."}},
    {Act::sorry,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"\"I am sorry, {B.name},\" {A.said}.", "{A} said sorry to {B.him}.",
      "\"I am so sorry,\" {A} said to {B.him}."}},
    {Act::excuse,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"\"I only wanted to play,\" {A.said}.", "\"I did not want to make you sad,\" {A} told {B.him}.",
      "\"It was so nice that I took it,\" {A.said}. \"I am sorry.\""}},
    {Act::forgive,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"\"It is okay,\" {A.said}.", "{A} was not angry any more.", "\"Do not worry,\" {A} said to {B.him}.",
      "{A} gave {B.him} a hug."}},
    {Act::ask_help,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"\"Can you help me?\" {A} asked {B.him}.", "{A} asked {B.him} for help.",
      "\"{B.name}, please help me!\" {A.said}."}},
    {Act::mend,
     NEEDS(w.holds(r.A, r.x) && w.thing[r.x].broken && w.holds(r.A, r.y)),
     DOES(w.thing[r.x].broken = false),
     {"{A} fixed {x} with {y}.", "With {y}, {A} made {x} as good as new.", "{A} used {y} to fix {x}."}},
    {Act::blow,
     NEEDS(w.holds(r.A, r.x) && places[r.p].area & trees),
     DOES(w.put(r.x, -1, r.p, -1); w.thing[r.x].high = true; w.witness(r.x)),
     {"A strong wind blew {x} up into a tree.", "The wind took {x} and blew it high into a tree.",
      "Then the wind came, and {x} got stuck in a tall tree.", "Whoosh! {x} flew up into a tree."}},
    {Act::reach,
     NEEDS(w.thing[r.x].high && w.lies(r.A, r.x)),
     nullptr,
     {"{A} jumped and jumped, but the tree was too tall.", "{A} could not reach {x.it}.",
      "\"It is too high for me,\" {A.said}.", "{A} tried to climb up, but it was too high."}},
    {Act::climb_down,
     NEEDS(w.thing[r.x].high && w.lies(r.A, r.x) && w.holds(r.A, r.y)),
     DOES(w.hand(r.x, r.A)),
     {"{A} put {y} by the tree, climbed up, and got {x} down.",
      "With {y}, {A} could reach {x} and bring it down.",
      "{A} climbed up {y} and took {x} out of the tree."}},
    {Act::lift_down,
     NEEDS(w.thing[r.x].high && w.lies(r.A, r.x) && w.who[r.A].skill != none),
     DOES(w.hand(r.x, r.A)),
     {"{A} {skill} and got {x} down.", "{A} {skill} and took {x} out of the tree."}},
    {Act::rain,
     NEEDS(places[r.p].area & outside),
     nullptr,
     {"Soon it began to rain.", "Dark clouds came, and it started to rain.",
      "Drip, drop! It began to rain hard."}},
    {Act::wet,
     nullptr,
     nullptr,
     {"{A} got wet and cold.", "{A} was wet from head to toe.", "{A} began to shiver."}},
    {Act::open,
     NEEDS(w.holds(r.A, r.x) && w.together(r.A, r.B)),
     nullptr,
     {"{A} opened {x}, and {A} and {B} stood under it.", "{A} held {x} over {B.him}.",
      "{A.name} and {B.name} stood close under {x}."}},
    {Act::dry,
     nullptr,
     nullptr,
     {"Soon {A.name} and {B.name} were dry and warm again.",
      "{A.name} and {B.name} did not get wet any more.",
      "Now the rain could not reach {A.name} and {B.name}."}},
    {Act::dark,
     NEEDS(places[r.p].area & dim && w.who[r.A].place == r.p),
     nullptr,
     {"It was very dark {p}.", "{p.the} was so dark that {A} could not see.",
      "It was as dark as night {p}."}},
    {Act::scared,
     nullptr,
     nullptr,
     {"{A} heard a strange sound and was scared.", "Something moved. {A} was afraid.",
      "\"Who is there?\" {A.said}."}},
    {Act::only,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"It was only {B.him}!", "The sound came from {B.him}.", "There sat {B}. \"Hello!\" {B.said}."}},
    {Act::light,
     NEEDS(w.holds(r.A, r.x) && w.who[r.A].place == r.p),
     nullptr,
     {"{A} lit {x}, and now {A} could see.", "{A} held up {x}. It was not dark any more.",
      "{x} made a warm light {p}."}},
    {Act::hungry,
     nullptr,
     DOES(w.who[r.A].hungry = true),
     {"{A} was very hungry.", "{A} had not eaten all day.", "\"I am so hungry,\" {A.said}."}},
    {Act::eat,
     NEEDS(w.holds(r.A, r.x)),
     DOES(w.eat(r.A, r.x)),
     {"{A} ate {x} all up.", "{A} ate {x} in three bites.", "{A} ate {x}. It was so good!"}},
    {Act::share,
     NEEDS(w.together(r.A, r.B) && w.holds(r.A, r.x)),
     DOES(w.eat(r.A, r.x); w.eat(r.B, r.x)),
     {"{A} broke {x} in two, and {A} and {B} ate it together.",
      "{A.name} and {B.name} each ate one half of {x}.",
      "{A} shared {x} with {B.him}, and soon it was all gone."}},
    {Act::stuck,
     nullptr,
     DOES(w.who[r.A].stuck = true),
     {"{A} was stuck in a deep hole.", "{A} had one foot stuck in the mud.", "{A} had fallen into a hole.",
      "{A} was stuck under a heavy branch."}},
    {Act::pull,
     NEEDS(w.together(r.A, r.B) && w.who[r.B].stuck),
     nullptr,
     {"{A} pulled and pulled, but {B} was still stuck.", "{A} tried to help, but it was too hard.",
      "{A} could not get {B.him} out."}},
    {Act::free,
     NEEDS(w.together(r.A, r.B) && w.who[r.B].stuck && w.holds(r.A, r.y)),
     DOES(w.who[r.B].stuck = false),
     {"{A} threw {y} to {B.him} and pulled {B.him} out.", "{B} held on to {y}, and {A} pulled. {B} was free!",
      "With {y}, {A} got {B.him} out."}},
    {Act::box,
     NEEDS(w.lies(r.A, r.x)),
     nullptr,
     {"{A} saw {x} {spot}.", "{A} looked {spot} and saw {x}.", "There was {x} {spot}."}},
    {Act::locked,
     NEEDS(w.who[r.A].place == r.p && w.thing[r.x].place == r.p),
     DOES(w.thing[r.x].locked = true),
     {"{A} wanted to open {x}, but it was locked.", "But {x} was locked.",
      "{A} tried to open {x.it}. It was locked."}},
    {Act::unlock,
     NEEDS(w.holds(r.A, r.y) && w.lies(r.A, r.x) && w.thing[r.x].locked),
     DOES(w.thing[r.x].locked = false),
     {"{A} opened {x} with {y}.", "{A} put {y} in the lock. Click! {x} was open.",
      "Now {A} could open {x} with {y}."}},
    {Act::snatch,
     NEEDS(w.together(r.A, r.B) && w.holds(r.B, r.x)),
     DOES(w.hand(r.x, r.A); w.walk(r.A, r.p)),
     {"{A} took {x} from {B.him} and ran {p.to}.", "Then {A} grabbed {x} and ran off {p.to}.",
      "All at once, {A} took {x} and ran away {p.to}."}},
    {Act::prize,
     NEEDS(w.together(r.A, r.B) && w.holds(r.B, r.x)),
     nullptr,
     {"\"If you can find me, you may have {x.the},\" {B} said to {A.him}.",
      "\"Find me, and {x.the} is yours,\" {B.said}.",
      "\"Let us play hide and seek!\" {B.said}. \"You can win {x.the}.\""}},
    {Act::game,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"{A.name} closed {A.his} eyes and began to count.", "{A.name} counted to ten.",
      "{A.name} covered {A.his} eyes.", "So {A.name} counted to ten with {A.his} eyes closed."}},
    {Act::hide,
     NEEDS(w.who[r.A].place == r.p),
     DOES(w.who[r.A].spot = r.spot),
     {"{A} hid {spot}.", "{A} sat down {spot} and was very quiet.", "{A} made {A.himself} small {spot}."}},
    {Act::seek,
     NEEDS(w.who[r.A].place == r.p && !w.together(r.A, r.B)),
     nullptr,
     {"{A} looked {spot}, but {B} was not there.", "{A} looked {spot}. Nobody!",
      "{A} looked {p}. {B.name} was not there."}},
    {Act::found,
     NEEDS(w.together(r.A, r.B) && w.who[r.B].spot == r.spot),
     DOES(w.who[r.B].spot = -1),
     {"{A} looked {spot} and found {B.him}!", "\"I see you!\" {A.said}. {B.name} was {spot}.",
      "{A} heard a laugh. {B.name} was {spot}!"}},
    {Act::errand,
     NEEDS(w.together(r.A, r.B)),
     DOES(w.who[r.B].believes[r.x] = r.p),
     {"{A} said, \"{B.name}, please bring me {x.a}. It is {p}.\"",
      "\"I need {x.a},\" {A.said}. \"It is {p}.\"", "{A} asked {B.him} to get {x} from {p.the}."}},
    {Act::birthday,
     nullptr,
     nullptr,
     {"{B} had a birthday that day. {A.name} wanted to give {B.him} {x.a}.",
      "{A} heard that {B} was sad. {x.a} would help!", "{A} wanted to give {x.a} to {A.his} friend {B.name}.",
      "{A} had an idea. {x.a} would be a nice gift for {B.him}!",
      "\"I will get {x.a} for {B.name},\" {A} said."}},
    {Act::feed,
     NEEDS(w.who[r.B].hungry),
     nullptr,
     {"{A} wanted to find {x.a} for {B.him}.", "\"I will get you {x.a},\" {A.said}.", "{A} thought of {x.a}.",
      "\"Would you like {x.a}?\" {A.asked}."}},
    {Act::wish,
     NEEDS(w.thing[r.x].place == r.p),
     DOES(w.who[r.A].believes[r.x] = r.p),
     {"{A} wanted {x.a}. It was {p}.", "{A} knew that there was {x.a} {p}.",
      "\"There is {x.a} {p},\" {A} thought.", "{A} wanted to get {x.a} from {p.the}."}},
    {Act::show,
     NEEDS(w.together(r.A, r.B) && w.holds(r.A, r.x)),
     nullptr,
     {"{A} showed {x} to {B.him}.", "\"Look at my {x.bare}!\" {A} said to {B.him}.",
      "{A} told {B.him} all about {x}."}},
    {Act::thank,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"\"Thank you, {B.name}!\" {A.said}.", "{A} thanked {B.him}.", "{A} gave {B.him} a big hug.",
      "\"You are so kind,\" {A} said to {B.him}."}},
    {Act::friends,
     NEEDS(w.together(r.A, r.B)),
     nullptr,
     {"{A.name} and {B.name} became good friends.",
      "From that day on, {A.name} and {B.name} were best friends.",
      "After that, {A.name} and {B.name} played together every day."}},
};
#undef NEEDS
#undef DOES

// --------------------------------------------------------------------------------------------- [5] saying it

// The teller walks one tale: it plays events, says them, and remembers what the reader has been told.
struct Teller {
    World w;
    Dice dice;
    Tale &tale;
    string &text;
    int sentence = 0;                                               // number of the sentence being printed
    size_t opens = 0;                                               // byte where it began
    int last_thing = -1, last_thing_sentence = -9;
    unsigned used_places = 0;

    Teller(Tale &tale, uint64_t seed) : dice{seed}, tale(tale), text(tale.text) {}

    // One event: it must be possible, it is noted, it is told, and only then does the world change (so that
    // "the kite" is where the sentence says). The table is in the order of the enum; a test makes sure.
    void happen(Act act, const Roles &r) {
        const Rule &rule = rules[int(act)];
        assert(rule.act == act && (!rule.needs || rule.needs(w, r)));
        int from = int(text.size());
        if (!rule.says.empty()) {
            string_view phrase;
            do phrase = rule.says[dice.below(int(rule.says.size()))];
            while (abrupt(phrase, r.B));
            say(phrase, r);
        }
        if (rule.does) rule.does(w, r);
        tale.events.push_back({act, r, from, int(text.size())});
    }

    // Nobody is called by a name that the reader has not heard: "Dot, where is the key?"
    bool abrupt(string_view phrase, int b) const {
        if (b < 0 || w.who[b].known || w.who[b].kind == grown_up) return false;
        size_t first = phrase.find("{B");
        bool introduces = phrase.substr(0, first).ends_with("friend ");
        return first != string_view::npos && phrase.substr(first, 7) == "{B.name" && !introduces;
    }

    void say(string_view phrase, const Roles &r) {
        if (!text.empty()) text += ' ';
        sentence++;
        opens = text.size();
        for (size_t i = 0; i < phrase.size(); i++) {
            if (phrase[i] == '{') {
                size_t end = phrase.find('}', i);
                slot(phrase.substr(i + 1, end - i - 1), r);
                i = end;
                continue;
            }
            text += phrase[i];
            bool ends = phrase[i] == '.' || phrase[i] == '!' || phrase[i] == '?';
            if (!ends || i + 2 >= phrase.size() || phrase[i + 1] != ' ') continue;
            sentence++;
            opens = text.size() + 1;
        }
    }

    void slot(string_view what, const Roles &r) {
        size_t from = text.size();
        bool capital = from == opens || text.back() == '"';         // a quote that opens: see the phrases
        string_view form = what.size() > 2 && what[1] == '.' ? what.substr(2) : string_view();
        if (what == "spot") text += places[r.p].spots[r.spot];
        else if (what == "junk") text += dice.one_of(junk);
        else if (what == "day") text += dice.one_of(days);
        else if (what == "state") text += state(w.thing[r.x]);
        else if (what == "skill") skill(w.who[r.A].skill);
        else if (what[0] == 'A') person(r.A, form);
        else if (what[0] == 'B') person(r.B, form);
        else if (what[0] == 'x') thing(r.x, form);
        else if (what[0] == 'y') thing(r.y, form);
        else place(r.p, form, form == "to" && w.who[r.A].been >> r.p & 1);
        if (capital && text[from] >= 'a') text[from] = char(text[from] - 'a' + 'A');
    }

    string_view state(const Thing &t) const {
        return t.broken ? "broken" : t.high ? "up in the tree" : t.holder >= 0 ? "gone" : "lost";
    }

    void skill(Skill s) {
        text += s == tall ? "reached up" : s == flies_up ? "flew up to the top" : "climbed up the tree";
    }

    void place(int p, string_view form, bool again) {
        if (form == "to") text += again ? "back to the " : "to the ";
        else if (form == "the") text += "the ";
        else {
            text += places[p].in;
            text += ' ';
        }
        text += places[p].text;
    }

    // He or she is clear if the person was named in this sentence or the last one, and nobody else of that
    // gender was named as late. (A name costs little; a wrong pronoun costs the reader the whole story.)
    bool clear(int a) const {
        if (w.who[a].named < sentence - 1) return false;
        for (const Person &rival : w.who) {
            bool other_one = &rival != &w.who[a] && rival.name->she == w.who[a].name->she;
            if (other_one && rival.named >= w.who[a].named) return false;
        }
        return true;
    }

    void person(int a, string_view form) {
        Person &who = w.who[a];
        bool she = who.name->she, first = !who.known && form != "name";
        bool pronoun = form == "himself" || (form != "name" && form != "new" && !first && clear(a));
        if (pronoun && form.empty() && text.size() == opens && dice.chance(25)) pronoun = false;
        bool speech = form == "said" || form == "asked" || form == "thought" || form == "cried";
        if (speech && !pronoun) (text += form) += ' ';
        tale.mentions.push_back({a, pronoun, int(text.size())});
        who.named = sentence;
        who.known = true;
        if (pronoun) {
            if (form == "himself") text += she ? "herself" : "himself";
            else if (form == "him") text += she ? "her" : "him";
            else if (form == "his") text += she ? "her" : "his";
            else text += she ? "she" : "he";
            if (speech) (text += ' ') += form;
            return;
        }
        if (first && who.kind != grown_up) introduce(who);
        text += who.name->text;
        if (form == "his") text += "'s";
    }

    void introduce(const Person &who) {
        text += "a ";
        text += who.size;
        text += ' ';
        text += who.kind == child ? (who.name->she ? "girl" : "boy") : who.species;
        text += " named ";
    }

    void thing(int x, string_view form) {
        Thing &t = w.thing[x];
        if (form == "look") {
            text += t.look;
            return;
        }
        if (form == "use" || form == "used") {
            text += form == "use" ? t.noun->use : t.noun->used;
            return;
        }
        bool clear_it = last_thing == x && last_thing_sentence >= sentence - 1;
        bool pronoun = form == "it" && t.known && clear_it;
        tale.mentions.push_back({10 + x, pronoun, int(text.size())});
        last_thing = x;
        last_thing_sentence = sentence;
        if (pronoun) {
            text += "it";
            return;
        }
        bool fresh = form == "a" || (!t.known && form != "bare" && form != "the");
        bool looks = fresh || (form != "bare" && (!t.known || dice.chance(30)));
        t.known = true;
        string_view first_word = looks ? t.look : t.noun->text;
        if (fresh) text += string_view("aeiou").find(first_word[0]) != string_view::npos ? "an " : "a ";
        else if (form != "bare") text += "the ";
        if (looks) {
            t.look_told = true;
            text += t.look;
            text += ' ';
        }
        text += t.noun->text;
    }

    // ------------------------------------------------------------------------------ [6] ways to get a thing

    int place_of(int a) const { return w.who[a].place; }
    bool room(int bytes) const { return int(text.size()) + bytes < 560; }
    int some_spot() { return dice.below(4); }

    int fresh_place(unsigned kind, unsigned but = 0) {              // one that the tale has not used yet
        for (;;) {
            int p = dice.below(n_places);
            if (!(places[p].area & kind) || places[p].area & but || used_places >> p & 1) continue;
            used_places |= 1u << p;
            return p;
        }
    }

    void travel(int a, int p) {
        if (place_of(a) == p) return;
        static constexpr Act causes[] = {Act::need,   Act::feed,   Act::tell_where, Act::miss,     Act::want,
                                         Act::locked, Act::errand, Act::snatch,     Act::birthday, Act::wish};
        Act last = tale.events.back().act, plain = Act::go;
        for (Act cause : causes)
            if (last == cause) plain = Act::set_off;
        happen(next_to(place_of(a), p) ? plain : Act::through, {.A = a, .p = p});
    }
    void travel_together(int a, int b, int p) {
        if (place_of(a) == p) return;
        happen(next_to(place_of(a), p) ? Act::lead : Act::lead_through, {.A = a, .B = b, .p = p});
    }

    // a looks for x in the wrong places, and asks whoever knows.
    void search(int a, int x) {
        int wrong = w.who[a].believes[x], where = w.thing[x].place;
        if (wrong >= 0 && wrong != where) {
            travel(a, wrong);
            happen(Act::vain, {.A = a, .x = x, .p = wrong, .spot = some_spot()});
            if (dice.chance(50) && room(250)) happen(Act::sad, {.A = a});
        } else if (place_of(a) != where && dice.chance(50) && room(300)) {
            happen(Act::vain, {.A = a, .x = x, .p = place_of(a), .spot = some_spot()});
        }
        for (int b = 0; b < 3; b++) {
            if (b == a || w.thing[x].holder >= 0) continue;
            bool knows = w.who[b].believes[x] == where, near = w.together(a, b);
            if (!knows && !(near && room(300) && w.who[b].known)) continue;
            travel(a, place_of(b));
            happen(Act::ask_where, {.A = a, .B = b, .x = x});
            if (!knows) {
                happen(Act::unknown, {.A = a, .B = b, .x = x});
                continue;
            }
            bool here = place_of(b) == where && w.thing[x].spot >= 0;
            happen(here ? Act::tell_here : Act::tell_where,
                   {.A = a, .B = b, .x = x, .p = where, .spot = w.thing[x].spot});
            return;
        }
    }

    // Brings x into a's hands, whatever that takes.
    void fetch(int a, int x) {
        Thing &t = w.thing[x];
        if (w.holds(a, x)) return;
        bool knows = t.holder < 0 && w.who[a].believes[x] == t.place;
        if (!knows && (t.holder < 0 || w.who[a].believes[x] >= 0)) search(a, x);
        if (t.holder >= 0) return ask_holder(a, x, t.holder);
        travel(a, t.place);
        if (t.high) return bring_down(a, x);
        if (t.spot >= 0) happen(Act::find, {.A = a, .x = x, .p = t.place, .spot = t.spot});
        else happen(Act::take, {.A = a, .x = x});
    }

    void ask_holder(int a, int x, int b, bool polite = true) {
        travel(a, place_of(b));
        Act last = tale.events.back().act;
        bool said = last == Act::sees || last == Act::kind || last == Act::selfish;
        if (!said) happen(Act::sees, {.A = a, .B = b, .x = x});
        happen(Act::ask_for, {.A = a, .B = b, .x = x});
        if (w.who[b].generous) happen(Act::give, {.A = b, .B = a, .x = x});
        else if (!w.thing[other].noun && room(230)) trade_for(a, x, b);
        else {
            happen(Act::refuse, {.A = b, .x = x});
            happen(Act::sad, {.A = a});
            happen(Act::regret, {.A = b, .B = a});
            happen(Act::give, {.A = b, .B = a, .x = x});
        }
        if (polite && dice.chance(60) && room(150)) happen(Act::thank, {.A = a, .B = b});
    }

    // b wants something for x; a must find that first.
    void trade_for(int a, int x, int b) {
        make(other, {dice.one_of(foods), dice.one_of(tastes)});
        int p = fresh_place(areas);
        happen(Act::exist, {.x = other, .p = p, .spot = some_spot()});
        w.who[a].believes[other] = p;
        happen(Act::want, {.A = b, .x = x, .y = other});
        fetch(a, other);
        travel(a, place_of(b));
        happen(Act::trade, {.A = a, .B = b, .x = other, .y = x});
    }

    // x is up in a tree, and a stands under it.
    void bring_down(int a, int x) {
        int p = place_of(a);
        if (dice.chance(60)) happen(Act::reach, {.A = a, .x = x, .p = p});
        int b = w.who[helper].skill != none && dice.chance(60) ? helper : w.who[pal].skill != none ? pal : -1;
        if (b < 0) {
            tool_somewhere(ladder);
            fetch(a, tool);
            travel(a, p);
            return happen(Act::climb_down, {.A = a, .x = x, .y = tool, .p = p});
        }
        travel(a, place_of(b));
        happen(Act::ask_help, {.A = a, .B = b});
        travel_together(a, b, p);
        happen(Act::lift_down, {.A = b, .x = x, .p = p});
        happen(Act::give, {.A = b, .B = a, .x = x});
        happen(Act::thank, {.A = a, .B = b});
    }

    struct Make {
        const Noun &noun;
        string_view look;
    };
    void make(int x, const Make &m) {
        w.thing[x] = Thing();
        w.thing[x].noun = &m.noun;
        w.thing[x].look = m.look;
    }

    // A tool that the hero needs: lying about where the hero knows, or in somebody's hands.
    void tool_somewhere(const Noun &noun, bool pal_may = true) {
        make(tool, {noun, dice.one_of(tool_looks)});
        happen(Act::need, {.A = hero, .x = tool});
        int holder = dice.below(3);
        if (holder == hero || (holder == pal && !pal_may)) {
            int p = fresh_place(house | yard);
            happen(Act::exist, {.x = tool, .p = p, .spot = some_spot()});
            if (dice.chance(70)) w.who[hero].believes[tool] = p;
            else w.who[helper].believes[tool] = p;
        } else {
            happen(Act::exist, {.A = holder, .x = tool});
        }
    }

    // ----------------------------------------------------------------------------------------- [7] plots

    // Everybody stands somewhere; the hero has been named.
    struct Stage {
        int at[3];                                                  // hero, pal, helper
    };
    void begin(const Stage &stage) {
        for (int a = 0; a < 3; a++) happen(Act::start, {.A = a, .p = stage.at[a]});
        happen(Act::once, {.A = hero, .p = stage.at[hero]});
        if (w.together(hero, pal)) happen(Act::meet, {.A = hero, .B = pal});
    }

    void own(int a, int x) {
        happen(Act::exist, {.A = a, .x = x});
        happen(Act::has, {.A = a, .x = x});
    }

    void nature(int a) { happen(w.who[a].generous ? Act::kind : Act::selfish, {.A = a}); }

    void upset(int a, int x) {
        if (dice.chance(50)) happen(Act::sad, {.A = a});
        else happen(Act::sad_for, {.A = a, .x = x});
    }

    void lost() {
        int home = fresh_place(house, dim), away = fresh_place(outside);
        begin({home, home, dice.chance(60) ? away : fresh_place(yard)});
        own(hero, toy);
        travel_together(hero, pal, away);
        happen(dice.chance(50) ? Act::use_both : Act::use, {.A = hero, .B = pal, .x = toy, .p = away});
        happen(Act::drop, {.A = hero, .x = toy, .p = away, .spot = some_spot()});
        travel_together(hero, pal, home);
        happen(Act::miss, {.A = hero, .x = toy});
        upset(hero, toy);
        w.who[hero].believes[toy] = dice.chance(30) ? fresh_place(yard) : -1;
        fetch(hero, toy);
        happen(Act::happy, {.A = hero});
    }

    void broken() {
        int home = fresh_place(house | yard | outside, dim);
        begin({home, home, dice.chance(50) ? home : fresh_place(areas, dim)});
        own(hero, toy);
        if (dice.chance(70)) {
            happen(Act::lend, {.A = hero, .B = pal, .x = toy});
            happen(Act::wreck, {.A = pal, .x = toy});
            upset(hero, toy);
            happen(Act::sorry, {.A = pal, .B = hero});
            if (dice.chance(50)) happen(Act::forgive, {.A = hero, .B = pal});
            happen(Act::give, {.A = pal, .B = hero, .x = toy});
        } else {
            happen(Act::wreck, {.A = hero, .x = toy});
            upset(hero, toy);
        }
        tool_somewhere(dice.chance(50) ? glue : tape);
        fetch(hero, tool);
        happen(Act::mend, {.A = hero, .x = toy, .y = tool});
        happen(dice.chance(50) ? Act::happy : Act::proud, {.A = hero});
    }

    void high() {
        int away = fresh_place(trees);
        begin({away, dice.chance(60) ? away : fresh_place(areas), fresh_place(areas, dim)});
        own(hero, toy);
        happen(Act::use, {.A = hero, .x = toy, .p = away});
        happen(Act::blow, {.A = hero, .x = toy, .p = away});
        if (dice.chance(50)) upset(hero, toy);
        bring_down(hero, toy);
        happen(Act::happy, {.A = hero});
    }

    void wish() {
        int home = fresh_place(areas, dim);
        begin({home, dice.chance(50) ? home : fresh_place(areas, dim), fresh_place(areas)});
        happen(Act::exist, {.A = pal, .x = toy});
        travel(hero, place_of(pal));
        happen(Act::sees, {.A = hero, .B = pal, .x = toy});
        if (dice.chance(60)) nature(pal);
        ask_holder(hero, toy, pal);
        happen(dice.chance(50) ? Act::use_both : Act::happy, {.A = hero, .B = pal, .x = toy});
    }

    void gift() {
        int home = fresh_place(areas, dim), there = fresh_place(areas, dim);
        begin({home, there, fresh_place(areas)});
        happen(Act::birthday, {.A = hero, .B = pal, .x = toy});
        somewhere(toy, fresh_place(areas));
        fetch(hero, toy);
        travel(hero, there);
        happen(Act::give, {.A = hero, .B = pal, .x = toy});
        happen(Act::happy, {.A = pal});
        happen(Act::thank, {.A = pal, .B = hero});
    }

    // x lies at p, or the helper has it; the hero may know, or be wrong about it.
    void somewhere(int x, int p) {
        if (dice.chance(30)) {
            happen(Act::exist, {.A = helper, .x = x});
            w.who[hero].believes[x] = dice.chance(50) ? p : -1;
            return;
        }
        happen(Act::exist, {.x = x, .p = p, .spot = some_spot()});
        w.who[dice.chance(60) ? hero : helper].believes[x] = p;
        if (dice.chance(20)) w.who[hero].believes[x] = fresh_place(areas);
    }

    void errand() {
        int home = fresh_place(areas, dim), there = fresh_place(areas), now = there;
        begin({home, fresh_place(areas, dim), home});
        if (dice.chance(50)) {
            happen(Act::exist, {.x = toy, .p = there, .spot = some_spot()});
        } else {                                                    // somebody took it before
            happen(Act::exist, {.A = pal, .x = toy});
            now = -1;
        }
        happen(Act::errand, {.A = helper, .B = hero, .x = toy, .p = there});
        fetch(hero, toy);
        if (now >= 0 && dice.chance(40)) happen(Act::proud, {.A = hero});
        travel(hero, home);
        happen(Act::give, {.A = hero, .B = helper, .x = toy});
        happen(Act::thank, {.A = helper, .B = hero});
    }

    void chest() {
        int home = fresh_place(areas), spot = some_spot();
        begin({home, dice.chance(50) ? home : fresh_place(areas, dim), fresh_place(areas, dim)});
        make(other, {dice.one_of(boxes), dice.one_of(colours)});
        happen(Act::exist, {.x = other, .p = home, .spot = spot});
        happen(Act::box, {.A = hero, .x = other, .p = home, .spot = spot});
        happen(Act::locked, {.A = hero, .x = other, .p = home});
        tool_somewhere(key);
        fetch(hero, tool);
        travel(hero, home);
        happen(Act::unlock, {.A = hero, .x = other, .y = tool});
        happen(Act::exist, {.x = toy, .p = home});
        happen(Act::notice, {.A = hero, .x = toy});
        happen(Act::take, {.A = hero, .x = toy});
        happen(Act::happy, {.A = hero});
    }

    void thief() {
        int home = fresh_place(areas, dim);
        begin({home, home, fresh_place(areas)});
        own(hero, toy);
        happen(Act::snatch, {.A = pal, .B = hero, .x = toy, .p = fresh_place(areas)});
        upset(hero, toy);
        ask_holder(hero, toy, pal, false);
        if (dice.chance(50)) happen(Act::excuse, {.A = pal, .B = hero, .x = toy});
        else happen(Act::sorry, {.A = pal, .B = hero});
        if (dice.chance(50)) happen(Act::forgive, {.A = hero, .B = pal});
        happen(Act::use_both, {.A = hero, .B = pal, .x = toy});
    }

    // While the hero is away, the friend puts the thing elsewhere: the hero's belief is now false.
    void moved() {
        int home = fresh_place(areas, dim), away = fresh_place(areas), there = fresh_place(areas);
        begin({home, home, fresh_place(areas)});
        own(hero, toy);
        happen(Act::put, {.A = hero, .x = toy, .p = home, .spot = some_spot()});
        travel(hero, away);
        happen(Act::carry_off, {.A = pal, .B = hero, .x = toy, .p = there, .spot = some_spot()});
        travel(hero, home);
        fetch(hero, toy);
        if (w.together(hero, pal) && dice.chance(50)) happen(Act::sorry, {.A = pal, .B = hero});
        happen(Act::happy, {.A = hero});
    }

    void stuck() {
        int home = fresh_place(areas, dim), there = fresh_place(outside);
        begin({home, there, fresh_place(areas, dim)});
        happen(Act::exist, {.A = pal, .x = toy});
        travel(hero, there);
        happen(Act::stuck, {.A = pal});
        if (dice.chance(40)) happen(Act::ask_help, {.A = pal, .B = hero});
        if (dice.chance(60)) happen(Act::pull, {.A = hero, .B = pal});
        make(tool, {rope, dice.one_of(tool_looks)});
        happen(Act::need, {.A = hero, .x = tool});
        somewhere(tool, fresh_place(areas));
        fetch(hero, tool);
        travel(hero, there);
        happen(Act::free, {.A = hero, .B = pal, .y = tool});
        happen(Act::thank, {.A = pal, .B = hero});
        happen(Act::give, {.A = pal, .B = hero, .x = toy});
    }

    void rain() {
        int away = fresh_place(outside, dim);
        begin({away, away, dice.chance(40) ? away : fresh_place(house)});
        happen(Act::rain, {.p = away});
        happen(Act::wet, {.A = dice.chance(50) ? hero : pal});
        happen(Act::need, {.A = hero, .x = toy});
        somewhere(toy, fresh_place(house | yard));
        fetch(hero, toy);
        travel(hero, away);
        happen(Act::open, {.A = hero, .B = pal, .x = toy});
        happen(Act::dry, {.A = hero, .B = pal});
    }

    void meal() {
        int home = fresh_place(areas, dim), there = fresh_place(areas, dim);
        begin({home, there, fresh_place(areas, dim)});
        travel(hero, there);
        happen(Act::meet, {.A = hero, .B = pal});
        happen(Act::hungry, {.A = pal});
        happen(Act::feed, {.A = hero, .B = pal, .x = toy});
        somewhere(toy, fresh_place(areas));
        fetch(hero, toy);
        travel(hero, there);
        if (dice.chance(50)) return happen(Act::share, {.A = hero, .B = pal, .x = toy});
        happen(Act::give, {.A = hero, .B = pal, .x = toy});
        happen(Act::eat, {.A = pal, .x = toy});
        happen(Act::thank, {.A = pal, .B = hero});
    }

    void dark() {
        int home = fresh_place(areas, dim), there = fresh_place(dim), spot = some_spot();
        begin({home, there, fresh_place(areas, dim)});
        happen(Act::exist, {.x = toy, .p = there, .spot = spot});
        happen(Act::wish, {.A = hero, .x = toy, .p = there});
        travel(hero, there);
        happen(Act::dark, {.A = hero, .p = there});
        happen(Act::scared, {.A = hero});
        tool_somewhere(dice.one_of(lamps), false);
        fetch(hero, tool);
        travel(hero, there);
        happen(Act::light, {.A = hero, .x = tool, .p = there});
        happen(Act::only, {.A = hero, .B = pal});
        happen(Act::find, {.A = hero, .x = toy, .p = there, .spot = spot});
    }

    void hidden() {
        int home = fresh_place(areas, dim), there = fresh_place(areas), spot = some_spot();
        begin({home, home, fresh_place(areas)});
        own(pal, toy);
        happen(Act::prize, {.A = hero, .B = pal, .x = toy});
        happen(Act::game, {.A = hero, .B = pal, .x = toy});
        travel(pal, there);
        happen(Act::hide, {.A = pal, .p = there, .spot = spot});
        for (int tries = 1 + dice.below(2); tries > 0; tries--) {
            int wrong = fresh_place(areas);
            travel(hero, wrong);
            happen(Act::seek, {.A = hero, .B = pal, .p = wrong, .spot = some_spot()});
        }
        travel(hero, there);
        happen(Act::found, {.A = hero, .B = pal, .p = there, .spot = spot});
        happen(Act::give, {.A = pal, .B = hero, .x = toy});
    }

    // ------------------------------------------------------------------------------------ how a tale ends

    void end(string_view moral) {
        if (!w.who[pal].known) {                                    // every tale has its friend: see cast()
            travel(hero, place_of(pal));
            if (w.holds(hero, toy)) happen(Act::show, {.A = hero, .B = pal, .x = toy});
            else happen(Act::meet, {.A = hero, .B = pal});
        }
        Roles r = {.A = hero, .B = pal, .x = toy, .p = place_of(hero)};
        if (w.together(hero, pal) && dice.chance(30) && room(70)) happen(Act::friends, r);
        else if (dice.chance(60) && room(70)) say(moral, r);
        static const string_view last[] = {"The end.", "It was a good day.",
                                           "That night, {A.name} slept well.", "What a day it was!",
                                           "{A.name} never forgot that day."};
        if (dice.chance(35) && room(40)) say(dice.one_of(last), r);
        if (dice.chance(60) && room(70)) question();
    }

    // A question to test the memory; the answer is read off the world or off what happened.
    void question() {
        const Thing &t = w.thing[toy];
        if (dice.chance(25) && t.look_told)
            return say("What did the {x.bare} look like? It was {x.look}.", {.x = toy});
        if (dice.chance(30) && t.holder >= 0)
            return say("Who has {x.the} now? {A.name} has it.", {.A = t.holder, .x = toy});
        int n = int(tale.events.size()), first = dice.below(n);
        for (int i = 0; i < n; i++) {
            const Event &e = tale.events[(first + i) % n];
            string_view ask = e.act == Act::find     ? "Where was {x.the}? It was {spot} {p}."
                              : e.act == Act::give   ? "Who gave {x.the} to {B.name}? {A.name} did."
                              : e.act == Act::wreck  ? "Who broke {x.the}? {A.name} did."
                              : e.act == Act::mend   ? "How did {A.name} fix {x.the}? With {y.the}."
                              : e.act == Act::trade  ? "What did {B.name} get for {y.the}? {x.a}."
                              : e.act == Act::found  ? "Where was {B.name}? {B.name} was {spot} {p}."
                              : e.act == Act::miss   ? "Why was {A.name} sad? {x.the} was lost."
                              : e.act == Act::blow   ? "Where did the wind blow {x.the}? Up into a tree."
                              : e.act == Act::hungry ? "Who was hungry? {A.name} was."
                                                     : "";
            if (!ask.empty()) return say(ask, e.roles);
        }
    }
};

// --------------------------------------------------------------------------------------- [8] a tale, a set

enum About { any_toy, a_fragile, a_windy, a_small, a_food, an_umbrella };
struct Plot {
    string_view name;
    void (Teller::*play)();
    About about;
    int animal_pal;                                                 // percent
    string_view moral[2];
};
static const Plot plots[] = {
    {"lost",
     &Teller::lost,
     any_toy,
     40,
     {"From then on, {A} took good care of {x}.", "{A} never lost {x} again."}},
    {"broken",
     &Teller::broken,
     a_fragile,
     40,
     {"After that, {A} was very careful with {x}.", "Broken things can be fixed."}},
    {"high",
     &Teller::high,
     a_windy,
     40,
     {"After that, {A} was careful on windy days.", "{A} held {x} with both hands now."}},
    {"wish", &Teller::wish, any_toy, 40, {"It is good to share.", "Things are more fun with a friend."}},
    {"gift",
     &Teller::gift,
     any_toy,
     40,
     {"It is nice to get a gift, and nice to give one.", "{B} loved {x}."}},
    {"errand", &Teller::errand, any_toy, 40, {"It is good to help.", "{A} liked to help."}},
    {"chest", &Teller::chest, a_small, 40, {"{A} was very lucky.", "{A} kept {x} for a long time."}},
    {"thief", &Teller::thief, any_toy, 70, {"{B} learned to ask first.", "{B} never took things again."}},
    {"moved",
     &Teller::moved,
     any_toy,
     40,
     {"After that, {B} always asked first.", "Next time, {B} would tell {A.him} first."}},
    {"stuck",
     &Teller::stuck,
     any_toy,
     80,
     {"It is good to help a friend.", "{B} was more careful after that."}},
    {"rain",
     &Teller::rain,
     an_umbrella,
     40,
     {"Then the sun came out again.", "A little rain is not so bad with a friend."}},
    {"meal", &Teller::meal, a_food, 60, {"{B} was not hungry any more.", "Food is best with a friend."}},
    {"dark",
     &Teller::dark,
     any_toy,
     80,
     {"{A} was not afraid of the dark any more.", "A little light can help a lot."}},
    {"hidden", &Teller::hidden, any_toy, 40, {"Then it was time for {A} to hide.", "It was a fun game."}}};

// Who and what: drawn before the telling, and all that the split looks at.
struct Cast {
    const Plot *plot;
    Person who[3];
    const Noun *noun;
    string_view look;
    uint64_t telling;                                               // seed of everything else
    bool held_out;
};

static Person draw_person(Dice &dice, int animals, int elders_too, bool plain) {
    Person p;
    int roll = dice.below(100);
    p.kind = roll < animals ? animal : roll < animals + elders_too ? grown_up : child;
    if (p.kind == animal) p.name = &dice.one_of(pets);
    else if (p.kind == grown_up) p.name = &dice.one_of(elders);
    else p.name = &dice.one_of(children);
    const Species *s;
    do s = &dice.one_of(species);
    while (plain && s->skill != none);
    p.species = s->text;
    p.size = dice.one_of(sizes);
    p.skill = p.kind == grown_up ? tall : p.kind == animal ? s->skill : Skill(none);
    p.generous = dice.chance(60);
    return p;
}

static const Noun &draw_noun(Dice &dice, About about) {
    if (about == an_umbrella) return umbrella;
    if (about == a_food) return dice.one_of(foods);
    unsigned want = 0;
    if (about == a_fragile) want = breaks;
    if (about == a_windy) want = windy;
    if (about == a_small) want = small;
    for (;;) {
        const Noun &noun = dice.one_of(toys);
        if ((noun.traits & want) == want) return noun;
    }
}

static Cast cast(uint64_t seed, long index) {
    Dice dice{seed * 0xD1342543DE82EF95 ^ uint64_t(index) * 0xA0761D6478BD642F};
    dice.next();
    Cast c;
    c.plot = &dice.one_of(plots);
    bool plain_pal = c.plot->play == &Teller::stuck;
    c.who[hero] = draw_person(dice, 25, 0, true);
    do c.who[pal] = draw_person(dice, c.plot->animal_pal, 0, plain_pal);
    while (c.who[pal].name == c.who[hero].name);
    do c.who[helper] = draw_person(dice, 30, 60, false);
    while (c.who[helper].name == c.who[hero].name || c.who[helper].name == c.who[pal].name);
    c.noun = &draw_noun(dice, c.plot->about);
    c.look = c.plot->about == a_food ? dice.one_of(tastes) : dice.one_of(colours);
    c.telling = dice.next();

    // The split: a hash of hero, friend, object and plot, which every text names; one in sixteen is held out.
    uint64_t hash = hash_of("");
    for (string_view part : {c.who[hero].name->text, c.who[pal].name->text, c.noun->text, c.plot->name})
        hash = hash_of(part, hash);
    c.held_out = (hash ^ hash >> 32) % 16 == 0;
    return c;
}

// Tells it again, from other dice, until the length is right (four tellings in ten are too long).
static void tell(const Cast &c, Tale &tale) {
    for (uint64_t attempt = 0;; attempt++) {
        tale.text.clear();
        tale.events.clear();
        tale.mentions.clear();
        Teller teller(tale, c.telling + attempt);
        for (int a = 0; a < 3; a++) teller.w.who[a] = c.who[a];
        teller.make(toy, {*c.noun, c.look});
        (teller.*c.plot->play)();
        teller.end(teller.dice.one_of(c.plot->moral));
        tale.attempts = int(attempt);
        for (int x = 0; x < 3; x++) {
            const Noun *noun = teller.w.thing[x].noun;
            tale.thing[x] = noun ? noun->text : "";
        }
        if (tale.text.size() >= 150 && tale.text.size() <= 600) break;
    }
    for (int a = 0; a < 3; a++) {
        tale.person[a] = c.who[a].name->text;
        tale.she[a] = c.who[a].name->she;
        tale.generous[a] = c.who[a].generous;
    }
    tale.plot = c.plot->name;
    tale.held_out = c.held_out;
}

Tale tell(uint64_t seed, long index) {
    Tale tale;
    tell(cast(seed, index), tale);
    return tale;
}

string story(uint64_t seed, long index) { return tell(seed, index).text; }

string story_set(bool held_out, long bytes, uint64_t seed) {
    expect(bytes >= 0, "stories: ", bytes, " bytes are not a size");
    string set;
    set.reserve(size_t(bytes) + 700);
    Tale tale;                                                      // keeps its memory from tale to tale
    for (long index = 0; long(set.size()) < bytes; index++) {
        Cast c = cast(seed, index);
        if (c.held_out != held_out) continue;
        tell(c, tale);
        set += tale.text;
        set += '\n';
    }
    return set;
}
