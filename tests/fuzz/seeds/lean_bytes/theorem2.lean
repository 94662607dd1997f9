theorem thm0 (p q r s t u : Prop) (h1 : r → p) (h2 : s → u) (h3 : t → q) (h4 : q → r) (h5 : p → s) : t → u := by
  intro h6
  have h7 : q := h3 h6
  have h8 : r := h4 h7
  have h9 : p := h1 h8
  have h10 : s := h5 h9
  exact h2 h10

