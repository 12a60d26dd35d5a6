#include "common/tensor/places.h"

const char *place_remedy(PlaceKind is, PlaceKind wanted) {
    static const char *const ways[4][4] = {
        /* [is][wanted] */
        [PLACE_REPLICATE] = {[PLACE_SHARD] = "op_split cuts it",
                             [PLACE_PARTIAL] = "every device has the whole value: nothing is left to add up",
                             [PLACE_PRIVATE] = "op_copy makes it each device's own"},
        [PLACE_SHARD] = {[PLACE_REPLICATE] = "op_gather puts the slices together",
                         [PLACE_SHARD] = "op_all_to_all cuts the other axis instead",
                         [PLACE_PARTIAL] =
                             "these are slices, not terms of a sum: op_gather puts them together",
                         [PLACE_PRIVATE] = "op_all_gather puts the slices together"},
        [PLACE_PARTIAL] = {[PLACE_REPLICATE] = "op_reduce adds the terms up",
                           [PLACE_SHARD] = "op_reduce_scatter adds the terms up and cuts the sum",
                           [PLACE_PRIVATE] = "op_reduce adds the terms up, then op_copy"},
        [PLACE_PRIVATE] = {[PLACE_REPLICATE] =
                               "each device has a value of its own: is it Replicate, or Partial?",
                           [PLACE_SHARD] = "each device has a value of its own: is it meant as a slice?",
                           [PLACE_PARTIAL] = "each device has a value of its own: is it meant as a term?"}};
    return ways[is][wanted];
}

#define EACH_MESH_AXIS(along) for (int along = 0; along < MESH_AXES; along++)

static bool cut_along(Place place, int axis) { return place.kind == PLACE_SHARD && place.axis == axis; }
static bool alike(Place a, Place b) {
    return a.kind == b.kind && (a.kind != PLACE_SHARD || a.axis == b.axis);
}
static Place shard(int axis) { return (Place){PLACE_SHARD, axis}; }
static int last_axis(const Tensor *t) { return t->shape.rank - 1; }

/* x is placed as it must be where another tensor is placed as it is. */
static void check(const char *op, int along, const Tensor *x, Place wanted, const Tensor *beside,
                  const char *hint) {
    Place is = x->place[along];
    CHECK(alike(is, wanted), hint, "%s: '%s' is %s on the mesh axis '%s', must be %s where '%s' is %s", op,
          x->name, place_text(is).text, mesh_axis_names[along], place_text(wanted).text, beside->name,
          place_text(beside->place[along]).text);
}

static void check_input(const char *op, int along, const Tensor *x, Place wanted, const Tensor *beside) {
    check(op, along, x, wanted, beside, place_remedy(x->place[along].kind, wanted.kind));
}

/* What is added to each device's term of a sum is added as often as there are devices. */
static void check_not_added(const char *op, int along, const Tensor *t, const Tensor *weight,
                            const char *hint) {
    CHECK(!t, hint, "%s: '%s' would be added once for each device along '%s', since '%s' is %s", op, t->name,
          mesh_axis_names[along], weight->name, place_text(weight->place[along]).text);
}

void places_check_whole(const char *op, const Tensor *x, int axis, const char *hint) {
    EACH_MESH_AXIS(along)
    CHECK(!cut_along(x->place[along], axis), hint,
          "%s: '%s' is %s on the mesh axis '%s', must not be cut along this axis", op, x->name,
          place_text(x->place[along]).text, mesh_axis_names[along]);
}

void places_check_replicate(const char *op, const Tensor *param, const char *hint) {
    EACH_MESH_AXIS(along)
    CHECK(param->place[along].kind == PLACE_REPLICATE, hint,
          "%s: '%s' is %s on the mesh axis '%s', must be Replicate", op, param->name,
          place_text(param->place[along]).text, mesh_axis_names[along]);
}

void places_check_row(const char *op, const Tensor *x, const Tensor *row) {
    EACH_MESH_AXIS(along)
    check(op, along, row, cut_along(x->place[along], last_axis(x)) ? shard(0) : (Place){PLACE_REPLICATE, 0},
          x, "a vector for each row is cut as the rows are");
}

void places_check_alike(const char *op, const Tensor *a, const Tensor *b) {
    EACH_MESH_AXIS(along) {
        PlaceKind is = b->place[along].kind, wanted = a->place[along].kind;
        CHECK(alike(a->place[along], b->place[along]),
              wanted == PLACE_PARTIAL ? place_remedy(wanted, is) : place_remedy(is, wanted),
              "%s: '%s' is %s on the mesh axis '%s' and '%s' is %s, must be placed alike", op, a->name,
              place_text(a->place[along]).text, mesh_axis_names[along], b->name,
              place_text(b->place[along]).text);
    }
}

void places_of_product(const char *op, const Tensor *x, const Tensor *weight, int in, const Tensor *bias,
                       Tensor *y) {
    static const char cut_bias[] = "a bias is cut as the columns of its weight are";
    EACH_MESH_AXIS(along) {
        Place w = weight->place[along];
        if (w.kind == PLACE_REPLICATE) {
            CHECK(!cut_along(x->place[along], last_axis(x)),
                  "op_all_gather puts the slices together; or the weight is cut along the same axis",
                  "%s: '%s' is %s on the mesh axis '%s', and '%s' is not cut", op, x->name,
                  place_text(x->place[along]).text, mesh_axis_names[along], weight->name);
            if (bias) check(op, along, bias, w, weight, cut_bias);
        } else if (cut_along(w, 1 - in)) {
            check_input(op, along, x, (Place){PLACE_PRIVATE, 0}, weight);
            if (bias) check(op, along, bias, shard(0), weight, cut_bias);
            y->place[along] = shard(last_axis(y));
        } else {
            CHECK(cut_along(w, in), "a weight is whole, or cut along one of its two axes",
                  "%s: '%s' is %s on the mesh axis '%s'", op, weight->name, place_text(w).text,
                  mesh_axis_names[along]);
            check_input(op, along, x, shard(last_axis(x)), weight);
            check_not_added(op, along, bias, weight, "add it behind op_reduce, with op_add_bias");
            y->place[along] = (Place){PLACE_PARTIAL, 0};
        }
    }
}

void places_of_look_up(const char *op, const Tensor *ids, const Tensor *token, const Tensor *position,
                       Tensor *y) {
    EACH_MESH_AXIS(along) {
        Place t = token->place[along];
        if (t.kind == PLACE_REPLICATE) {
            if (position)
                check(op, along, position, t, token, "a table that is looked up whole is added to whole");
            continue;
        }
        CHECK(cut_along(t, 0), "a table is whole, or cut by rows", "%s: '%s' is %s on the mesh axis '%s'", op,
              token->name, place_text(t).text, mesh_axis_names[along]);
        check_input(op, along, ids, (Place){PLACE_REPLICATE, 0}, token);
        check_not_added(op, along, position, token, "add it behind op_reduce");
        y->place[along] = (Place){PLACE_PARTIAL, 0};
    }
}

void places_of_join(const char *op, const Tensor *a, const Tensor *b, Tensor *y) {
    Tensor b_as_a = *b;
    EACH_MESH_AXIS(along) {
        Place slices = shard(last_axis(y)), p = a->place[along], r = b->place[along];
        bool own =
            (alike(p, slices) && r.kind == PLACE_PRIVATE) || (p.kind == PLACE_PRIVATE && alike(r, slices));
        if (!own) continue;
        y->place[along] = slices;
        b_as_a.place[along] = p;
    }
    places_check_alike(op, a, &b_as_a);
}
